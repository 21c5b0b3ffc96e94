// A norm with gain and (layernorm) bias, fused with the residual addition before it.
#pragma once

#include "model/module/module.h"

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
  // out = norm(x) once more, for a backward pass that did not keep it.
  void recompute(const Pass& pass, const Tensor& x, const Tensor& out) const;
  // d_x (+)= gradient at the norm's input; x is the sum.
  void backward(const Pass& pass, const Tensor& d_x, bool add_to_d_x, const Tensor& d_out, const Tensor& x,
                const Tensor& workspace) const;

 private:
  NormForward arguments(const Pass& pass, const Tensor& x) const;

  Norm kind_;
  double epsilon_;
  ParamId gain_, bias_;
  BufferId stats_;
};

}  // namespace sluice
