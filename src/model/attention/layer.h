// The attention layer: projections -> score function -> gate -> output projection.
#pragma once

#include <optional>

#include "model/attention/gate.h"
#include "model/module.h"

namespace sluice {

class AttentionLayer {
 public:
  AttentionLayer(const Declarations& d, const std::string& name, int layer);

  void forward(const Pass& pass, const Tensor& x, const Tensor& out) const;  // [N, C] both
  // The last product of a forward run, again: what the block adds to the residual stream.
  void output(const Pass& pass, const Tensor& out) const;
  // x is the input again; d_x is overwritten.
  void backward(const Pass& pass, const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& workspace) const;

  // --- what probes look at, after a forward run
  AttentionForward attention(const Pass& pass) const;   // q, k, v as attended to, stats
  Tensor values(const Pass& pass) const;                // [N, KV*D], before any gate
  Tensor output_weight(const Pass& pass) const { return pass.params.weight(output_); }  // [C, H*D]
  const std::optional<Gate>& gate() const { return gate_; }

 private:
  Tensor gated(const Pass& pass) const;
  void attend(const Pass& pass, const AttentionForward& args) const;
  Tensor qkv(const Pass& pass) const;
  Tensor heads(const Pass& pass) const;  // [N, (H + KV) D]: queries and keys as attention takes them, from column 0 on
  void prepare_heads(const Pass& pass) const;
  void prepare_heads_backward(const Pass& pass, const Tensor& d_heads, const Tensor& workspace) const;
  void turn(const Pass& pass, const Tensor& heads, bool inverse) const;
  void show_gradient(const Pass& pass, const Tensor& d_values, bool whole) const;

  int layer_;
  AttentionSpec spec_;
  ParamId qkv_, qkv_bias_, output_, output_bias_, key_bias_, value_bias_;
  ParamId learned_[kMostLearned];      // [H]: what the score function learns
  std::optional<Gate> gate_;
  double epsilon_;                     // of the norms of queries and keys
  ParamId q_gain_, k_gain_;            // [D]; absent without qk_norm
  BufferId qkv_buffer_, d_qkv_;        // [N, (H + 2 KV) D]; without qk_norm rope turns queries and keys in place
  BufferId normed_;                    // [N, (H + KV) D]: with qk_norm, queries and keys normalised and turned
  BufferId rope_table_;                // [context, D]
  BufferId gated_values_;              // [N, KV*D], site source
  BufferId heads_out_, gated_, d_heads_;  // [N, H*D]
  BufferId stats_, attention_workspace_;
};

}  // namespace sluice
