#include "kernels/ops/stages/difference.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

// The columns of the result.
int64_t check_difference(const OpCheck& op, const DifferenceForward& args) {
  const DType act = op.activation_type("x", args.x);
  const DifferenceLayout& layout = args.layout;
  op.require(layout.signal > 0 && layout.signal <= DifferenceForward::kMostSignals,
             "one head is taken from 1 to 1024 others");
  op.require(layout.noise > 0 && layout.heads > 0 && layout.heads % (layout.signal * layout.noise) == 0,
             "heads must be whole blocks");
  op.require(args.x.cols() % layout.all_heads() == 0, "heads must divide the columns of x");
  op.require_present("lambda", args.lambda);
  if (args.has_logits()) op.matrix("lambda", args.lambda, act, args.x.rows(), layout.heads);
  else op.flat("lambda", args.lambda, accumulator_of(act), args.clamped ? layout.heads : 1);
  op.require(!args.clamped || !args.has_logits(), "what is clamped are no logits");
  return args.x.cols() / layout.all_heads() * layout.heads;
}

void check_vectors(const OpCheck& op, const char* what, const Tensor& vectors, DType acc, int64_t D) {
  op.matrix(what, vectors, acc, 4, D, Layout::kContiguous);
}

}  // namespace

void DifferenceForward::check() const {
  const OpCheck op(kName);
  const int64_t columns = check_difference(op, *this);
  op.matrix("out", out, x.dtype, x.rows(), columns);
}

void DifferenceBackward::check() const {
  const OpCheck op(kName);
  const int64_t columns = check_difference(op, forward);
  const Tensor& x = forward.x;
  op.matrix("d_out", d_out, x.dtype, x.rows(), columns);
  op.matrix("d_x", d_x, x.dtype, x.rows(), x.cols());
  op.matrix("d_lambda", d_lambda, x.dtype, x.rows(), forward.layout.heads);
  op.absent("out", forward.out, "the backward pass does not need it");
}

void DifferenceFactorForward::check() const {
  const OpCheck op(kName);
  const DType acc = accumulator_of(op.activation_type("vectors", vectors));
  check_vectors(op, "vectors", vectors, acc, vectors.cols());
  op.flat("out", out, acc, 1);
}

void DifferenceFactorBackward::check() const {
  const OpCheck op(kName);
  const DType acc = accumulator_of(op.activation_type("vectors", vectors));
  check_vectors(op, "vectors", vectors, acc, vectors.cols());
  check_vectors(op, "d_vectors", d_vectors, acc, vectors.cols());
  op.require_present("d_out", d_out);
  op.flat("d_out", d_out, acc, d_out.elements());
}

}  // namespace sluice
