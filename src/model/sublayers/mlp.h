// The MLP: out = f(x W_up^T + b) W_down^T + b. Of swiglu, whose f has two arguments, W_up is [2 hidden, C]: the gates'
// rows, then those of what they scale.
#pragma once

#include <optional>

#include "model/module/module.h"

namespace sluice {

// What the first product goes through; nothing for swiglu, which multiplies two halves of it.
std::optional<Activation> activation_of(MlpKind mlp);

// What an MLP is, and where in a step it runs.
struct MlpSetup {
  std::string name;  // "blocks.0.mlp"
  MlpKind kind;
  int64_t hidden;  // hidden activations
  bool up_bias, down_bias;
  int sublayer, now;   // Timeline's
  Lifetime backward;   // from when its pre-activations are made again, if they are, to its backward pass
  bool recomputed;     // they are
  bool whole = false;  // by running it once more
};

class Mlp {
 public:
  Mlp(const Declarations& d, const MlpSetup& setup);
  // A block's second sublayer.
  Mlp(const Declarations& d, const std::string& name, int layer);

  void forward(const Pass& pass, const Tensor& x, const Tensor& out) const;  // [N, C] both
  // The pre-activations once more, for a backward pass that did not keep them.
  void recompute(const Pass& pass, const Tensor& x) const;
  // x is the input again; d_x is overwritten. The kept pre-activations are used up.
  void backward(const Pass& pass, const Tensor& d_x, const Tensor& d_out, const Tensor& x,
                const Tensor& workspace) const;

  int64_t up_width() const { return up_width_; }  // rows of the first product: of swiglu twice the hidden ones

 private:
  int sublayer_;
  std::optional<Activation> activation_;  // none: swiglu
  int64_t hidden_, up_width_;
  ParamId up_, up_bias_, down_, down_bias_;
  BufferId pre_;                // [N, up_width], for the backward pass
  BufferId active_, d_hidden_;  // [N, hidden], within one tick
};

}  // namespace sluice
