// Queries and keys, each head divided by the root of its mean square (model.qk_norm), with one learned gain [D] for all
// queries and one for all keys; or each of length 1, without gains (unit_length.h). A learned key of the core's has no
// such norm.
//
// The result is not kept for the backward pass: it is computed again, with a recomputed block already when that runs
// once more, before the backward pass of its MLP.
#pragma once

#include "model/attention/stage.h"
#include "model/config/attention_parts.h"

namespace sluice {

class HeadNorm final : public Stage {
 public:
  HeadNorm(const LayerPlace& place, bool gains);

  Seat seat() const override { return Seat::kQueriesAndKeys; }
  Tensor result(const Pass& pass, const Tensor& in) const override { return pass.view(normed_, in.shape); }
  void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const override;
  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                  const Tensor& workspace) const override;
  bool keeps_result() const override { return false; }

 private:
  HeadNormForward arguments(const Pass& pass, ParamId gain, const Tensor& x) const;
  // Calls f(gain, columns of the queries), then the same of the keys.
  template <class F>
  void for_both(F f) const {
    f(q_gain_, 0, sizes_.query_columns());
    f(k_gain_, sizes_.query_columns(), sizes_.key_columns());
  }

  HeadSizes sizes_;
  double epsilon_;
  ParamId q_gain_, k_gain_;  // absent: heads of length 1
  BufferId normed_;          // [N, H_q D_qk + H_kv D_qk]
};

StagePart head_norm_stage();

}  // namespace sluice
