// The MLP: out = f(x W_up^T + b) W_down^T + b. Of swiglu, whose f has two arguments, W_up is [2 hidden, C]: the gates'
// rows, then those of what they scale.
#pragma once

#include <optional>

#include "model/module/module.h"

namespace sluice {

class Mlp {
 public:
  Mlp(const Declarations& d, const std::string& name, int layer);

  void forward(const Pass& pass, const Tensor& x, const Tensor& out) const;  // [N, C] both
  // The pre-activations once more, for a backward pass that did not keep them.
  void recompute(const Pass& pass, const Tensor& x) const;
  // x is the input again; d_x is overwritten. The kept pre-activations are used up.
  void backward(const Pass& pass, const Tensor& d_x, const Tensor& d_out, const Tensor& x,
                const Tensor& workspace) const;

 private:
  int sublayer_;
  std::optional<Activation> activation_;  // none: swiglu
  int64_t hidden_, up_width_;
  ParamId up_, up_bias_, down_, down_bias_;
  BufferId pre_;                // [N, up_width], for the backward pass
  BufferId active_, d_hidden_;  // [N, hidden], within one tick
};

}  // namespace sluice
