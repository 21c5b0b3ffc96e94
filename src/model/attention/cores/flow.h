// Flow-Attention, causal (arXiv 2202.06258): linear attention of sigmoids of queries and keys, whose values compete for
// what flows out of them and whose results are gated by what flows in. The formulas: kernels/formulas/flow.h.
//
// No parameters. Time and memory grow with T alone, and a decoder keeps a matrix [D_qk, D_v] and four rows [D_qk] a
// head.
#pragma once

#include "model/attention/core.h"
#include "model/config/attention_parts.h"

namespace sluice {

class Flow final : public Core, private WeightsView {
 public:
  explicit Flow(const LayerPlace& place);

  void forward(const Pass& pass, const Heads& heads) const override { run(pass, heads, {}, {}); }
  void backward(const Pass& pass, const Heads& heads, const Heads& d) const override;
  void extend(const Pass& pass, const Heads& heads) const override;
  const WeightsView* weights() const override { return this; }

 private:
  bool normalised() const override { return false; }
  bool has_bias_key() const override { return false; }
  void probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const override;
  std::unique_ptr<HostWeights> read(const Pass& pass, const Heads& heads) const override;

  AttentionShape shape(int64_t B, int64_t T) const { return {B, T, sizes_.H_q, sizes_.H_kv, sizes_.D_qk, sizes_.D_v}; }
  // What linear attention is given: a key and a value for each query head.
  AttentionShape linear_shape(int64_t B, int64_t T) const {
    return {B, T, sizes_.H_q, sizes_.H_q, sizes_.D_qk, sizes_.D_v};
  }
  FlowForward flows(const Pass& pass, const Heads& heads) const;
  LinearAttentionForward sums(const Pass& pass) const;
  GateForward gates(const Pass& pass) const;
  // With states where a decoder has some.
  void run(const Pass& pass, const Heads& heads, const Tensor& flow_state, const Tensor& sum_state) const;
  Tensor rows(const Pass& pass, BufferId id, int64_t columns) const { return pass.view(id, {pass.N(), columns}); }
  int64_t query_columns() const { return sizes_.H_q * sizes_.D_qk; }
  int64_t result_columns() const { return sizes_.H_q * sizes_.D_v; }

  HeadSizes sizes_;
  BufferId queries_, keys_, values_, logits_, mixed_, stats_;
  BufferId d_queries_, d_keys_, d_values_, d_logits_, d_mixed_, flow_workspace_, sum_workspace_;
  StateId flow_state_, sum_state_;
};

CorePart flow_core();

}  // namespace sluice
