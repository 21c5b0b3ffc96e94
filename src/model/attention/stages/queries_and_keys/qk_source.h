// Queries and keys of a fixed stream (model/config/qk_source.h), which is the pass's last sequence: every sequence has
// them.
#pragma once

#include "model/attention/stage.h"
#include "model/config/attention_parts.h"
#include "model/config/qk_source.h"

namespace sluice {

// Of a layer whose queries and keys are the stream's.
class SharedQueriesAndKeys final : public Stage {
 public:
  Seat seat() const override { return Seat::kQueriesAndKeys; }
  Tensor result(const Pass& /*pass*/, const Tensor& in) const override { return in; }
  void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const override;
  // The stream's rows get the gradients of all; those of the others are left, and nobody reads them.
  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                  const Tensor& workspace) const override;
};

StagePart qk_source_stage();

}  // namespace sluice
