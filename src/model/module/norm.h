// A norm with gain and (layernorm) bias, fused with the residual addition before it.
//
// With model.norm_gate its result y is multiplied by sigmoid(silu(y D^T) U^T), D and U of that rank (GatedNorm, arXiv
// 2601.22966): parameters NAME.gate.down.weight, NAME.gate.up.weight. What lies between is not kept for the backward
// pass, before which the norm is computed once more.
#pragma once

#include "model/module/low_rank.h"

namespace sluice {

// What a norm is given: x + delta, all [N, C].
struct NormInput {
  Tensor x = {};
  Tensor delta = {};  // absent where x is whole
  Tensor sum = {};    // where the norm leaves x + delta; absent with delta
};

class NormLayer {
 public:
  // The statistics live from the forward's to the backward's ticks, or are recomputed with what they belong to.
  NormLayer(const Declarations& d, const std::string& name, Lifetime forward, Lifetime backward, bool recomputed);

  // out = norm(x + delta)  [N, C]
  void forward(const Pass& pass, const NormInput& in, const Tensor& out) const;
  // The same without the gate: for the sum and its statistics.
  void ungated(const Pass& pass, const NormInput& in, const Tensor& out) const;
  // out = norm(x) once more, for a backward pass that did not keep it.
  void recompute(const Pass& pass, const Tensor& x, const Tensor& out) const;
  // d_x (+)= gradient at the norm's input; x is the sum. With a gate, after forward() or recompute() of the same pass.
  void backward(const Pass& pass, const Tensor& d_x, bool add_to_d_x, const Tensor& d_out, const Tensor& x,
                const Tensor& workspace) const;

 private:
  NormForward arguments(const Pass& pass, const Tensor& x) const;
  void declare_gate(const Declarations& d, const std::string& name, const Lifetime& forward, const Lifetime& backward);
  Tensor like(const Pass& pass, BufferId id) const { return pass.view(id, {pass.N(), width_}); }
  // From the gradient at the gate's result that at y.
  Tensor gate_backward(const Pass& pass, const Tensor& d_out, const Tensor& workspace) const;

  Norm kind_;
  int64_t width_;
  double epsilon_;
  ParamId gain_, bias_;
  BufferId stats_;
  bool gated_;
  LowRankLinear gate_;
  BufferId y_, logits_, d_y_, d_logits_;  // [N, C]
};

}  // namespace sluice
