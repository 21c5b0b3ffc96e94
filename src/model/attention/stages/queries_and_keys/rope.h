// Rotary positions of queries and keys (model.position = rope), in place. A learned key of the core's has no position.
#pragma once

#include "model/attention/stage.h"
#include "model/config/attention_parts.h"

namespace sluice {

class RopeStage final : public Stage {
 public:
  explicit RopeStage(const LayerPlace& place) : table_(place.d.rope_table) {}

  Seat seat() const override { return Seat::kQueriesAndKeys; }
  Tensor result(const Pass& /*pass*/, const Tensor& in) const override { return in; }
  void forward(const Pass& pass, const Tensor& in, const StageReads& /*reads*/) const override {
    rotate(pass, in, false);
  }
  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& /*in*/, const StageReads& /*reads*/,
                  const Tensor& /*workspace*/) const override {
    rotate(pass, d_result, true);
    return d_result;
  }

 private:
  void rotate(const Pass& pass, const Tensor& heads, bool inverse) const;

  BufferId table_;  // [context, D_qk]
};

StagePart rope_stage();

}  // namespace sluice
