#include "model/sublayers/mlp.h"

namespace sluice {

std::optional<Activation> activation_of(MlpKind mlp) {
  switch (mlp) {
    case MlpKind::kRelu: return Activation::kRelu;
    case MlpKind::kGelu: return Activation::kGelu;
    case MlpKind::kGeluErf: return Activation::kGeluErf;
    case MlpKind::kReluSquared: return Activation::kReluSquared;
    case MlpKind::kSwiglu: return {};
  }
  return {};
}

Mlp::Mlp(const Declarations& d, const MlpSetup& setup)
    : sublayer_(setup.sublayer),
      activation_(activation_of(setup.kind)),
      hidden_(setup.hidden),
      up_width_(activation_ ? hidden_ : 2 * hidden_) {
  const std::string& name = setup.name;
  const int64_t C = d.config.width;
  up_ = d.linear(name + ".up", up_width_, C, false, std::vector<int64_t>(size_t(up_width_ / hidden_), hidden_));
  up_bias_ = d.linear_bias(name + ".up", up_width_, C, setup.up_bias);
  down_ = d.linear(name + ".down", C, hidden_, true, {C});
  down_bias_ = d.linear_bias(name + ".down", C, hidden_, setup.down_bias);
  const Lifetime now = {setup.now, setup.now}, back = {setup.backward.last, setup.backward.last};
  std::optional<Lifetime> again;
  if (setup.whole) again = {setup.backward.first, setup.backward.first};
  const Shape shape = {d.max_tokens(), hidden_};
  pre_ = d.activation(name + ".pre", "activations", {d.max_tokens(), up_width_}, d.act, now, setup.backward,
                      setup.recomputed);
  active_ = d.plan.declare(name + ".active", "scratch", shape, d.act, now, again);
  d_hidden_ = d.plan.declare(name + ".d_hidden", "scratch", shape, d.act, back);
}

Mlp::Mlp(const Declarations& d, const std::string& name, int layer)
    : Mlp(d, {.name = name,
              .kind = d.config.mlp,
              .hidden = d.config.mlp_width,
              .up_bias = d.config.bias,
              .down_bias = d.config.bias,
              .sublayer = d.timeline.mlp_sublayer(layer),
              .now = d.timeline.mlp(layer),
              .backward = {d.timeline.mlp_backward(layer), d.timeline.mlp_backward(layer)},
              .recomputed = d.recompute != Recompute::kNone}) {}

void Mlp::forward(const Pass& pass, const Tensor& x, const Tensor& out) const {
  const Tensor pre = pass.view(pre_, {pass.N(), up_width_}), active = pass.view(active_, {pass.N(), hidden_});
  const LinearOperands up = pass.operands(x, up_);
  Matmul product = {.out = pre, .a = up.x, .b = up.weight, .transpose_b = true, .bias = pass.params.value(up_bias_)};
  if (activation_) product.activated = active, product.activation = *activation_;
  pass.backend.run(product);
  if (!activation_) pass.backend.run(SwigluForward{active, pre});
  pass.show(sublayer_, Shown::kActive, active);
  pass.linear(out, active, down_, down_bias_);
}

void Mlp::recompute(const Pass& pass, const Tensor& x) const {
  pass.linear(pass.view(pre_, {pass.N(), up_width_}), x, up_, up_bias_);
}

void Mlp::backward(const Pass& pass, const Tensor& d_x, const Tensor& d_out, const Tensor& x,
                   const Tensor& workspace) const {
  const Tensor pre = pass.view(pre_, {pass.N(), up_width_}), d_hidden = pass.view(d_hidden_, {pass.N(), hidden_});
  pass.backend.run(Matmul{.out = d_hidden, .a = d_out, .b = pass.params.weight(down_), .bias = {}});
  // The activations were not kept: they come back in the pass that differentiates them, in place of what it has read.
  // That is the pre-activations; of swiglu their gradient, twice as wide, goes there, and the activations into
  // d_hidden.
  Tensor active = pre, d_pre = d_hidden;
  if (!activation_) std::swap(active, d_pre);
  if (activation_) pass.backend.run(ActivationBackward{*activation_, d_pre, d_hidden, pre, active});
  else pass.backend.run(SwigluBackward{d_pre, d_hidden, pre, active});
  pass.linear_backward(Tensor{}, false, d_out, active, down_, down_bias_, workspace);
  pass.linear_backward(d_x, false, d_pre, x, up_, up_bias_, workspace);
}

}  // namespace sluice
