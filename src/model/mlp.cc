#include "model/mlp.h"

namespace sluice {

Mlp::Mlp(const Declarations& d, const std::string& name, int layer)
    : activation_(d.config.mlp == "relu" ? Activation::kRelu : Activation::kGelu), hidden_(d.config.mlp_width) {
  const int64_t C = d.config.width;
  up_ = d.linear(name + ".up", hidden_, C);
  up_bias_ = d.linear_bias(name + ".up", hidden_, C);
  down_ = d.linear(name + ".down", C, hidden_, true);
  down_bias_ = d.linear_bias(name + ".down", C, hidden_);
  const int now = d.timeline.mlp(layer), back = d.timeline.mlp_backward(layer);
  const Shape shape = {d.max_tokens(), hidden_};
  pre_ = d.activation(name + ".pre", "activations", shape, d.act, {now, now}, {back, back},
                      d.recompute != Recompute::kNone);
  active_ = d.plan.declare(name + ".active", "scratch", shape, d.act, {now, now});
  d_hidden_ = d.plan.declare(name + ".d_hidden", "scratch", shape, d.act, {back, back});
}

void Mlp::forward(const Pass& pass, const Tensor& x, const Tensor& out) const {
  const Shape shape = {pass.N(), hidden_};
  const Tensor pre = pass.view(pre_, shape), active = pass.view(active_, shape);
  const LinearOperands up = pass.operands(x, up_);
  pass.backend.matmul({.out = pre,
                       .a = up.x,
                       .b = up.weight,
                       .transpose_b = true,
                       .bias = pass.params.value(up_bias_),
                       .activated = active,
                       .activation = activation_});
  pass.linear(out, active, down_, down_bias_);
}

void Mlp::recompute(const Pass& pass, const Tensor& x) const {
  pass.linear(pass.view(pre_, {pass.N(), hidden_}), x, up_, up_bias_);
}

void Mlp::backward(const Pass& pass, const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& workspace) const {
  const Shape shape = {pass.N(), hidden_};
  const Tensor pre = pass.view(pre_, shape), d_hidden = pass.view(d_hidden_, shape);
  pass.backend.matmul({.out = d_hidden, .a = d_out, .b = pass.params.weight(down_), .bias = {}});
  // The activations were not kept: they come back in place of the pre-activations, in the pass that differentiates them.
  pass.backend.activation_backward(activation_, d_hidden, d_hidden, pre, pre);
  pass.linear_backward(Tensor{}, false, d_out, pre, down_, down_bias_, workspace);
  pass.linear_backward(d_x, false, d_hidden, x, up_, up_bias_, workspace);
}

}  // namespace sluice
