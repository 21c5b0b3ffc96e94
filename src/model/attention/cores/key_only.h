// Attention whose scores are the keys' own ("non-approximate", arXiv 2510.11602, eq. 18):
//
//   s_j = silu(q_j) . k_j / sqrt(D_qk),   O_i = sum over j <= i of e^{s_j} v_j / sum over j <= i of e^{s_j}
//
// No parameters. Time and memory grow with T alone, and a decoder keeps one average a head.
#pragma once

#include "model/attention/core.h"
#include "model/config/attention_parts.h"

namespace sluice {

class KeyOnly final : public Core, private WeightsView {
 public:
  explicit KeyOnly(const LayerPlace& place);

  void forward(const Pass& pass, const Heads& heads) const override;
  void backward(const Pass& pass, const Heads& heads, const Heads& d) const override;
  void extend(const Pass& pass, const Heads& heads) const override;
  const WeightsView* weights() const override { return this; }

 private:
  bool normalised() const override { return true; }
  bool has_bias_key() const override { return false; }
  void probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const override;
  std::unique_ptr<HostWeights> read(const Pass& pass, const Heads& heads) const override;

  AttentionShape shape(int64_t B, int64_t T) const { return {B, T, sizes_.H_q, sizes_.H_kv, sizes_.D_qk, sizes_.D_v}; }
  KeyOnlyForward arguments(const Pass& pass, const Heads& heads) const;

  HeadSizes sizes_;
  DType acc_;
  BufferId betas_, workspace_;
  StateId average_;  // [1, H_q (D_v + 2)]
};

CorePart key_only_core();

}  // namespace sluice
