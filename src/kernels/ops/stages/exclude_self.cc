#include "kernels/ops/stages/exclude_self.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

// The columns of v.
int64_t check_heads(const OpCheck& op, const ExcludeSelfForward& args) {
  const DType act = op.activation_type("y", args.y);
  const int64_t N = args.y.rows(), C = args.y.cols();
  op.require(args.kv_heads > 0 && args.heads > 0 && args.heads % args.kv_heads == 0,
             "every key/value head needs as many heads");
  op.require(C / args.heads <= ExcludeSelfForward::kMostFeatures, "a head has too many features");
  op.require(C % args.heads == 0, "heads must divide the width");
  const int64_t columns = C / args.heads * args.kv_heads;
  op.matrix("v", args.v, act, N, columns);
  return columns;
}

}  // namespace

void ExcludeSelfForward::check() const {
  const OpCheck op(kName);
  check_heads(op, *this);
  op.matrix("out", out, y.dtype, y.rows(), y.cols());
}

void ExcludeSelfBackward::check() const {
  const OpCheck op(kName);
  const int64_t columns = check_heads(op, forward);
  const Tensor& y = forward.y;
  op.matrix("d_out", d_out, y.dtype, y.rows(), y.cols());
  op.matrix("d_y", d_y, y.dtype, y.rows(), y.cols());
  op.matrix("d_v", d_v, y.dtype, y.rows(), columns);
  op.absent("out", forward.out, "the backward pass does not need it");
}

}  // namespace sluice
