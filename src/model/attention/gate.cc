#include "model/attention/gate.h"

#include <cmath>

namespace sluice {

Gate::Gate(const Declarations& d, const std::string& name, int layer) {
  const ModelConfig& model = d.config;
  const GateConfig& gate = model.attention.gate;
  reads_ = gate.reads == "value" ? Reads::kValue : gate.reads == "hidden_head" ? Reads::kHiddenHead : Reads::kHidden;
  at_source_ = gate.site == "source";
  grain_ = gate.grain == "head" ? GateGrain::kHead : GateGrain::kElement;
  head_size_ = model.head_size();
  groups_ = at_source_ ? model.kv_heads : model.heads;
  columns_ = groups_ * (grain_ == GateGrain::kHead ? 1 : head_size_);
  const int64_t inputs = reads_ == Reads::kValue        ? model.kv_heads * head_size_
                         : reads_ == Reads::kHiddenHead ? head_size_
                                                        : model.width;
  weight_ = d.linear(name, columns_, inputs);
  if (gate.bias)
    bias_ = d.params.declare(name + ".bias", {columns_}, Init::constant(std::log(gate.opening / (1 - gate.opening))),
                             DecayGroup::kVector);
  const int back = d.timeline.attention_backward(layer);
  const Shape shape = {d.max_tokens(), columns_};
  logits_ = d.attention_activation(layer, name + ".logits", "activations", shape, d.act);
  d_logits_ = d.plan.declare(name + ".d_logits", "scratch", shape, d.act, {back, back});
}

GateForward Gate::arguments(const Pass& pass, const Tensor& in) const {
  GateForward args;
  args.grain = grain_;
  args.heads = groups_;
  args.x = in;
  args.logits = logits(pass);
  return args;
}

void Gate::compute(const Pass& pass, const Tensor& x, const Tensor& v) const {
  const Tensor out = logits(pass), bias = pass.params.value(bias_);
  if (reads_ != Reads::kHiddenHead) return pass.linear(out, reads_values() ? v : x, weight_, bias_);
  const LinearOperands in = pass.operands(x, weight_);
  pass.backend.run(HeadMatmul{{.out = out, .a = in.x, .b = in.weight, .transpose_b = true, .bias = bias}, groups_});
}

void Gate::apply(const Pass& pass, const Tensor& out, const Tensor& in) const {
  GateForward args = arguments(pass, in);
  args.out = out;
  pass.backend.run(args);
}

void Gate::backward(const Pass& pass, const Tensor& d_in, const Tensor& d_out, const Tensor& in) const {
  GateBackward args;
  args.forward = arguments(pass, in);
  args.d_out = d_out;
  args.d_x = d_in;
  args.d_logits = pass.view(d_logits_, {pass.N(), columns_});
  pass.backend.run(args);
}

void Gate::backward_input(const Pass& pass, const Tensor& d_read, const Tensor& read, const Tensor& workspace) const {
  const Tensor d_logits = pass.view(d_logits_, {pass.N(), columns_});
  if (reads_ != Reads::kHiddenHead) return pass.linear_backward(d_read, true, d_logits, read, weight_, bias_, workspace);
  pass.backend.run(HeadMatmul{
      {.out = d_read, .a = d_logits, .b = pass.params.weight(weight_), .accumulate = true, .bias = {}}, groups_});
  pass.backend.run(HeadMatmul{{.out = pass.params.grad(weight_),
                               .a = d_logits,
                               .b = read,
                               .transpose_a = true,
                               .accumulate = pass.accumulate,
                               .bias = {}},
                              groups_});
  if (bias_) pass.backend.run(BiasGradient{pass.params.grad(bias_), d_logits, pass.accumulate, workspace});
}

}  // namespace sluice
