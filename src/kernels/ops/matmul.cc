#include "kernels/ops/matmul.h"

#include "kernels/ops/check.h"

namespace sluice {

void Matmul::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("a", a), acc = accumulator_of(act);
  op.require_present("out", out);
  op.require_present("b", b);
  const int64_t M = transpose_a ? a.cols() : a.rows(), K = transpose_a ? a.rows() : a.cols();
  const int64_t N = transpose_b ? b.rows() : b.cols();
  op.require(M > 0 && N > 0 && K > 0, "every size must be positive");
  op.matrix("a", a, act, a.rows(), a.cols());
  op.matrix("b", b, act, transpose_b ? N : K, transpose_b ? K : N);
  op.matrix("out", out, out.dtype == act ? act : acc, M, N);
  op.flat("bias", bias, acc, N, Presence::kOptional);
  if (activated) op.matrix("activated", activated, out.dtype, M, N);
}

void HeadMatmul::check() const {
  const OpCheck op(kName);
  op.require_present("a", all.a);
  op.require_present("b", all.b);
  op.require_present("out", all.out);
  op.require(!all.activated, "`activated` must be absent");
  op.require(!all.transpose_a || !all.bias, "a weight's gradient has no bias");
  const auto divides = [&](int64_t size) { return heads >= 1 && size % heads == 0; };
  op.require(divides(all.a.cols()) && divides(all.transpose_a ? all.b.cols() : all.b.rows()) &&
                 divides(all.transpose_a ? all.out.rows() : all.out.cols()) &&
                 (!all.bias || divides(all.bias.elements())),
             "the heads must be equal slices of every tensor");
  of_head(0).check();
}

Matmul HeadMatmul::of_head(int64_t head) const {
  const auto columns = [&](const Tensor& t) { return t.columns(head * (t.cols() / heads), t.cols() / heads); };
  const auto rows = [&](const Tensor& t) { return t.row_range(head * (t.rows() / heads), t.rows() / heads); };
  Matmul one = all;
  one.a = columns(all.a);
  one.b = all.transpose_a ? columns(all.b) : rows(all.b);
  one.out = all.transpose_a ? rows(all.out) : columns(all.out);
  if (all.bias) one.bias = columns(all.bias).reshaped({one.out.cols()});
  return one;
}

}  // namespace sluice
