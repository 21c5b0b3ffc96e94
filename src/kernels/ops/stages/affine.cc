#include "kernels/ops/stages/affine.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

// The columns of u.
int64_t check_heads(const OpCheck& op, const AffineForward& args) {
  const DType act = op.activation_type("y", args.y);
  const int64_t N = args.y.rows(), C = args.y.cols();
  op.require(args.kv_heads > 0 && args.heads > 0 && args.heads % args.kv_heads == 0,
             "every key/value head needs as many heads");
  op.require(C % args.heads == 0, "heads must divide the width");
  op.require(C / args.heads <= AffineForward::kMostFeatures, "a head has too many features");
  const int64_t columns = C / args.heads * args.kv_heads;
  op.matrix("u", args.u, act, N, columns);
  op.matrix("logits", args.logits, act, N, args.heads);
  op.flat("average", args.average, accumulator_of(act), args.heads);
  return columns;
}

}  // namespace

void AffineForward::check() const {
  const OpCheck op(kName);
  check_heads(op, *this);
  op.matrix("out", out, y.dtype, y.rows(), y.cols());
}

void AffineBackward::check() const {
  const OpCheck op(kName);
  const int64_t columns = check_heads(op, forward);
  const Tensor& y = forward.y;
  op.matrix("d_out", d_out, y.dtype, y.rows(), y.cols());
  op.matrix("d_y", d_y, y.dtype, y.rows(), y.cols());
  op.matrix("d_u", d_u, y.dtype, y.rows(), columns);
  op.matrix("d_logits", d_logits, y.dtype, y.rows(), forward.heads);
  op.absent("out", forward.out, "the backward pass does not need it");
}

void AffineMean::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("logits", logits);
  op.flat("mean", mean, accumulator_of(act), logits.cols());
}

}  // namespace sluice
