#include "model/module/norm.h"

namespace sluice {

NormLayer::NormLayer(const Declarations& d, const std::string& name, Lifetime forward, Lifetime backward,
                     bool recomputed)
    : kind_(d.config.norm),
      epsilon_(d.config.norm_epsilon),
      gain_(d.params.declare(name + ".weight", {d.config.width}, Init::constant(1), DecayGroup::kNorm)),
      bias_(kind_ == Norm::kRmsNorm
                ? ParamId{}
                : d.params.declare(name + ".bias", {d.config.width}, Init::constant(0), DecayGroup::kNorm)),
      stats_(d.activation(name + ".stats", "statistics", {d.max_tokens(), 2}, d.acc(), forward, backward, recomputed)) {
}

NormForward NormLayer::arguments(const Pass& pass, const Tensor& x) const {
  NormForward args;
  args.kind = kind_;
  args.epsilon = epsilon_;
  args.x = x;
  args.gain = pass.params.value(gain_);
  args.bias = pass.params.value(bias_);
  args.stats = pass.view(stats_, {pass.N(), 2});
  return args;
}

void NormLayer::forward(const Pass& pass, const NormInput& in, const Tensor& out) const {
  NormForward args = arguments(pass, in.x);
  args.delta = in.delta;
  args.sum = in.sum;
  args.out = out;
  pass.backend.run(args);
}

void NormLayer::recompute(const Pass& pass, const Tensor& x, const Tensor& out) const { forward(pass, {.x = x}, out); }

void NormLayer::backward(const Pass& pass, const Tensor& d_x, bool add_to_d_x, const Tensor& d_out, const Tensor& x,
                         const Tensor& workspace) const {
  NormBackward args;
  args.forward = arguments(pass, x);
  args.d_out = d_out;
  args.d_x = d_x;
  args.add_to_d_x = add_to_d_x;
  args.d_gain = pass.params.grad(gain_);
  args.d_bias = pass.params.grad(bias_);
  args.accumulate = pass.accumulate;
  args.workspace = workspace;
  pass.backend.run(args);
}

}  // namespace sluice
