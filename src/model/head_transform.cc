#include "model/head_transform.h"

#include "model/sublayers/mlp.h"

namespace sluice {

HeadTransform::HeadTransform(const Declarations& d)
    : activation_(*activation_of(d.config.mlp)),
      width_(d.config.width),
      sublayer_(d.timeline.head_sublayer()),
      weight_(d.linear("head.transform", d.config.width, d.config.width)),
      bias_(d.linear_bias("head.transform", d.config.width, d.config.width, d.config.bias)),
      norm_(d, "head.norm", {d.timeline.head(), d.timeline.head()}, {d.timeline.head(), d.timeline.head()}, false) {
  const auto declared = [&](const char* name, const char* kind) {
    return d.plan.declare(name, kind, {d.max_tokens(), width_}, d.act, {d.timeline.head(), d.timeline.head()});
  };
  pre_ = declared("head.pre", "activations");
  active_ = declared("head.active", "activations");
  out_ = declared("head.transformed", "activations");
  d_out_ = declared("head.d_transformed", "gradients");
}

Tensor HeadTransform::forward(const Pass& pass, const Tensor& x) const {
  const LinearOperands in = pass.operands(x, weight_);
  pass.backend.run(Matmul{.out = view(pass, pre_),
                          .a = in.x,
                          .b = in.weight,
                          .transpose_b = true,
                          .bias = pass.params.value(bias_),
                          .activated = view(pass, active_),
                          .activation = activation_});
  pass.show(sublayer_, Shown::kActive, view(pass, active_));
  const Tensor out = view(pass, out_);
  norm_.forward(pass, {.x = view(pass, active_)}, out);
  pass.show(sublayer_, Shown::kOutput, out);
  return out;
}

void HeadTransform::backward(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const {
  const Tensor d = view(pass, d_out_);
  norm_.backward(pass, d, false, d, view(pass, active_), workspace);
  pass.backend.run(ActivationBackward{.kind = activation_, .d_x = d, .d_out = d, .x = view(pass, pre_)});
  pass.linear_backward(d_x, false, d, x, weight_, bias_, workspace);
}

}  // namespace sluice
