#include "model/module/norm.h"

namespace sluice {

NormLayer::NormLayer(const Declarations& d, const std::string& name, Lifetime forward, Lifetime backward,
                     bool recomputed)
    : kind_(d.config.norm),
      width_(d.config.width),
      epsilon_(d.config.norm_epsilon),
      gain_(d.params.declare(name + ".weight", {d.config.width}, Init::constant(1), DecayGroup::kNorm)),
      bias_(kind_ == Norm::kRmsNorm
                ? ParamId{}
                : d.params.declare(name + ".bias", {d.config.width}, Init::constant(0), DecayGroup::kNorm)),
      stats_(d.activation(name + ".stats", "statistics", {d.max_tokens(), 2}, d.acc(), forward, backward, recomputed)),
      gated_(d.config.norm_gate > 0) {
  if (gated_) declare_gate(d, name, forward, backward);
}

void NormLayer::declare_gate(const Declarations& d, const std::string& name, const Lifetime& forward,
                             const Lifetime& backward) {
  const BufferUses uses = {forward, backward, forward.last < backward.first};
  gate_ = LowRankLinear(d, name + ".gate", width_, width_, d.config.norm_gate, uses);
  const Shape shape = {d.max_tokens(), width_};
  const auto declared = [&](const char* part) {
    return d.activation(name + part, "scratch", shape, d.act, uses.forward, uses.backward, uses.recomputed);
  };
  y_ = declared(".ungated");
  logits_ = declared(".gate.logits");
  d_y_ = d.plan.declare(name + ".d_ungated", "scratch", shape, d.act, backward);
  d_logits_ = d.plan.declare(name + ".gate.d_logits", "scratch", shape, d.act, backward);
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

void NormLayer::ungated(const Pass& pass, const NormInput& in, const Tensor& out) const {
  NormForward args = arguments(pass, in.x);
  args.delta = in.delta;
  args.sum = in.sum;
  args.out = out;
  pass.backend.run(args);
}

void NormLayer::forward(const Pass& pass, const NormInput& in, const Tensor& out) const {
  if (!gated_) return ungated(pass, in, out);
  const Tensor y = like(pass, y_), logits = like(pass, logits_);
  ungated(pass, in, y);
  gate_.forward(pass, logits, y, {});
  pass.backend.run(GateForward{.grain = GateGrain::kElement, .x = y, .logits = logits, .out = out});
}

Tensor NormLayer::gate_backward(const Pass& pass, const Tensor& d_out, const Tensor& workspace) const {
  const Tensor y = like(pass, y_), d_y = like(pass, d_y_), d_logits = like(pass, d_logits_);
  pass.backend.run(
      GateBackward{.forward = {.grain = GateGrain::kElement, .x = y, .logits = like(pass, logits_), .out = {}},
                   .d_out = d_out,
                   .d_x = d_y,
                   .d_logits = d_logits});
  gate_.backward(pass, d_y, d_logits, y, {}, workspace);
  return d_y;
}

void NormLayer::recompute(const Pass& pass, const Tensor& x, const Tensor& out) const { forward(pass, {.x = x}, out); }

void NormLayer::backward(const Pass& pass, const Tensor& d_x, bool add_to_d_x, const Tensor& d_out, const Tensor& x,
                         const Tensor& workspace) const {
  NormBackward args;
  args.forward = arguments(pass, x);
  args.d_out = gated_ ? gate_backward(pass, d_out, workspace) : d_out;
  args.d_x = d_x;
  args.add_to_d_x = add_to_d_x;
  args.d_gain = pass.params.grad(gain_);
  args.d_bias = pass.params.grad(bias_);
  args.accumulate = pass.accumulate;
  args.workspace = workspace;
  pass.backend.run(args);
}

}  // namespace sluice
