#include "model/module/low_rank.h"

namespace sluice {

LowRankLinear::LowRankLinear(const Declarations& d, const std::string& name, int64_t columns, int64_t inputs,
                             int64_t rank, const BufferUses& uses, bool silu)
    : rank_(rank), silu_(silu) {
  if (rank == 0) {
    weight_ = d.linear(name, columns, inputs);
    return;
  }
  down_ = d.linear(name + ".down", rank, inputs);
  weight_ = d.linear(name + ".up", columns, rank);
  const Shape shape = {d.max_tokens(), rank};
  const auto kept = [&](const char* part) {
    return d.activation(name + part, "activations", shape, d.act, uses.forward, uses.backward, uses.recomputed);
  };
  hidden_ = kept(".hidden");
  if (silu) active_ = kept(".active");
  d_hidden_ = d.plan.declare(name + ".d_hidden", "scratch", shape, d.act, uses.backward);
}

void LowRankLinear::forward(const Pass& pass, const Tensor& out, const Tensor& x, ParamId bias) const {
  if (rank_ == 0) return pass.linear(out, x, weight_, bias);
  const Tensor hidden = of_rank(pass, hidden_), active = silu_ ? of_rank(pass, active_) : hidden;
  pass.linear(hidden, x, down_, {});
  if (silu_) pass.backend.run(ActivationForward{Activation::kSilu, active, hidden});
  pass.linear(out, active, weight_, bias);
}

void LowRankLinear::backward(const Pass& pass, const Tensor& d_x, const Tensor& d_out, const Tensor& x, ParamId bias,
                             const Tensor& workspace) const {
  if (rank_ == 0) return pass.linear_backward(d_x, true, d_out, x, weight_, bias, workspace);
  const Tensor d_hidden = of_rank(pass, d_hidden_), hidden = of_rank(pass, hidden_);
  pass.linear_backward(d_hidden, false, d_out, silu_ ? of_rank(pass, active_) : hidden, weight_, bias, workspace);
  if (silu_)
    pass.backend.run(ActivationBackward{.kind = Activation::kSilu, .d_x = d_hidden, .d_out = d_hidden, .x = hidden});
  pass.linear_backward(d_x, true, d_hidden, x, down_, {}, workspace);
}

}  // namespace sluice
