#include "kernels/ops/elementwise.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

void check_gate(const OpCheck& op, const GateForward& args) {
  const DType act = op.activation_type("x", args.x);
  const int64_t N = args.x.rows(), C = args.x.cols();
  op.require(args.heads > 0 && C % args.heads == 0, "heads must divide the width");
  op.matrix("x", args.x, act, N, C);
  op.matrix("logits", args.logits, act, N, args.grain == GateGrain::kHead ? args.heads : C);
}

}  // namespace

void Fill::check() const { OpCheck(kName).require_present("out", out); }

void Copy::check() const {
  const OpCheck op(kName);
  op.activation_type("x", x);
  op.matrix("out", out, op.activation_type("out", out), x.rows(), x.cols());
}

void RandomUniform::check() const { OpCheck(kName).activation_type("out", out); }

void RandomNormal::check() const { OpCheck(kName).activation_type("out", out); }

void ActivationForward::check() const {
  const OpCheck op(kName);
  op.matrix("out", out, op.activation_type("x", x), x.rows(), x.cols());
}

void ActivationBackward::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("x", x);
  op.matrix("d_x", d_x, act, x.rows(), x.cols());
  op.matrix("d_out", d_out, act, x.rows(), x.cols());
  op.matrix("out", out, act, x.rows(), x.cols(), Layout::kStrided, Presence::kOptional);
}

void SwigluForward::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("out", out);
  op.matrix("out", out, act, out.rows(), out.cols());
  op.matrix("x", x, act, out.rows(), 2 * out.cols());
}

void SwigluBackward::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("d_out", d_out);
  const int64_t N = d_out.rows(), F = d_out.cols();
  op.matrix("d_out", d_out, act, N, F);
  op.matrix("d_x", d_x, act, N, 2 * F);
  op.matrix("x", x, act, N, 2 * F);
  op.matrix("out", out, act, N, F, Layout::kStrided, Presence::kOptional);
}

void GateForward::check() const {
  const OpCheck op(kName);
  check_gate(op, *this);
  op.matrix("out", out, x.dtype, x.rows(), x.cols());
}

void GateBackward::check() const {
  const OpCheck op(kName);
  check_gate(op, forward);
  const Tensor &x = forward.x, &logits = forward.logits;
  op.matrix("d_out", d_out, x.dtype, x.rows(), x.cols());
  op.matrix("d_x", d_x, x.dtype, x.rows(), x.cols());
  op.matrix("d_logits", d_logits, x.dtype, logits.rows(), logits.cols());
}

void GroupNorms::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("x", x);
  op.require(groups > 0 && x.cols() % groups == 0, "groups must divide the width");
  op.matrix("x", x, act, x.rows(), x.cols());
  op.matrix("out", out, accumulator_of(act), x.rows(), groups);
}

}  // namespace sluice
