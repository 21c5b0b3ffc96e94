#include "model/module/low_rank.h"

#include <algorithm>

namespace sluice {

void LowRankLinear::Product::forward(const Pass& pass, const Tensor& out, const Tensor& x, ParamId bias) const {
  if (heads == 0) return pass.linear(out, x, weight, bias);
  const LinearOperands in = pass.operands(x, weight);
  pass.backend.run(
      HeadMatmul{{.out = out, .a = in.x, .b = in.weight, .transpose_b = true, .bias = pass.params.value(bias)}, heads});
}

void LowRankLinear::Product::backward(const Pass& pass, const Tensor& d_x, bool add_to_d_x, const Tensor& d_out,
                                      const Tensor& x, ParamId bias, const Tensor& workspace) const {
  if (heads == 0) return pass.linear_backward(d_x, add_to_d_x, d_out, x, weight, bias, workspace);
  pass.backend.run(HeadMatmul{
      {.out = d_x, .a = d_out, .b = pass.params.weight(weight), .accumulate = add_to_d_x, .bias = {}}, heads});
  pass.backend.run(HeadMatmul{{.out = pass.params.grad(weight),
                               .a = d_out,
                               .b = x,
                               .transpose_a = true,
                               .accumulate = pass.accumulate,
                               .bias = {}},
                              heads});
  if (bias) pass.backend.run(BiasGradient{pass.params.grad(bias), d_out, pass.accumulate, workspace});
}

LowRankLinear::LowRankLinear(const Declarations& d, const std::string& name, int64_t columns, int64_t inputs,
                             int64_t rank, const BufferUses& uses, ByHeads by, const BetweenRanks& between)
    : between_(rank * std::max<int64_t>(by.heads, 1)), activation_(between.activation) {
  const int64_t heads_of_x = by.slices ? by.heads : 0;
  if (!is_low()) {
    last_ = {d.linear(name, columns, inputs), heads_of_x};
    return;
  }
  first_ = {d.linear(name + ".down", between_, inputs), heads_of_x};
  down_bias_ = d.linear_bias(name + ".down", between_, inputs, between.bias);
  last_ = {d.linear(name + ".up", columns, rank), by.heads};
  const Shape shape = {d.max_tokens(), between_};
  const auto kept = [&](const char* part) {
    return d.activation(name + part, "activations", shape, d.act, uses.forward, uses.backward, uses.recomputed);
  };
  hidden_ = kept(".hidden");
  if (activation_) active_ = kept(".active");
  d_hidden_ = d.plan.declare(name + ".d_hidden", "scratch", shape, d.act, uses.backward);
}

void LowRankLinear::forward(const Pass& pass, const Tensor& out, const Tensor& x, ParamId bias) const {
  if (!is_low()) return last_.forward(pass, out, x, bias);
  const Tensor hidden = of_rank(pass, hidden_), active = activation_ ? of_rank(pass, active_) : hidden;
  first_.forward(pass, hidden, x, down_bias_);
  if (activation_) pass.backend.run(ActivationForward{*activation_, active, hidden});
  last_.forward(pass, out, active, bias);
}

void LowRankLinear::backward(const Pass& pass, const Tensor& d_x, const Tensor& d_out, const Tensor& x, ParamId bias,
                             const Tensor& workspace) const {
  if (!is_low()) return last_.backward(pass, d_x, true, d_out, x, bias, workspace);
  const Tensor d_hidden = of_rank(pass, d_hidden_), hidden = of_rank(pass, hidden_);
  last_.backward(pass, d_hidden, false, d_out, activation_ ? of_rank(pass, active_) : hidden, bias, workspace);
  if (activation_)
    pass.backend.run(ActivationBackward{.kind = *activation_, .d_x = d_hidden, .d_out = d_hidden, .x = hidden});
  first_.backward(pass, d_x, true, d_hidden, x, down_bias_, workspace);
}

}  // namespace sluice
