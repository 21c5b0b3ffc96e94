#include "kernels/ops/stages/mix.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

DType check_mix(const OpCheck& op, const MixForward& args) {
  const DType act = op.activation_type("x", args.x);
  op.matrix("y", args.y, act, args.x.rows(), args.x.cols());
  op.flat("x share", args.shares.x, accumulator_of(act), 1, Presence::kOptional);
  op.flat("y share", args.shares.y, accumulator_of(act), 1, required_if(bool(args.shares.x)));
  return act;
}

}  // namespace

void MixForward::check() const {
  const OpCheck op(kName);
  const DType act = check_mix(op, *this);
  op.matrix("out", out, act, x.rows(), x.cols());
}

void MixBackward::check() const {
  const OpCheck op(kName);
  const DType act = check_mix(op, forward);
  const int64_t N = forward.x.rows(), C = forward.x.cols();
  op.matrix("d_out", d_out, act, N, C);
  op.matrix("d_x", d_x, act, N, C);
  op.matrix("d_y", d_y, act, N, C);
  op.flat("d_x_share", d_x_share, accumulator_of(act), 1, required_if(bool(forward.shares.x)));
  op.flat("d_y_share", d_y_share, accumulator_of(act), 1, required_if(bool(forward.shares.y)));
  op.absent("out", forward.out, "the backward pass does not need it");
}

}  // namespace sluice
