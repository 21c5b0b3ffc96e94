#include "kernels/ops/optimizer.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

void check_range(const OpCheck& op, const OptimizerRange& range) {
  const DType type = range.param.dtype;
  op.require(type == DType::kF32 || type == DType::kF64, "param must be f32 or f64");
  const int64_t n = range.param.elements();
  op.flat("param", range.param, type, n);
  op.flat("grad", range.grad, type, n);
  op.flat("compute_copy", range.compute_copy, DType::kBF16, n, Presence::kOptional);
  if (type == DType::kF64) op.absent("compute_copy", range.compute_copy, "f64 parameters have no bf16 copy");
}

void check_summed(const OpCheck& op, const Tensor& x) {
  op.activation_type("x", x);
  op.require(x.contiguous(), "x must be contiguous");
}

}  // namespace

void AdamWUpdate::check() const {
  const OpCheck op(kName);
  check_range(op, range);
  op.flat("first_moment", range.first_moment, range.param.dtype, range.param.elements());
  op.flat("second_moment", range.second_moment, range.param.dtype, range.param.elements());
  op.require(step.step >= 1, "steps count from 1");
}

void SgdUpdate::check() const {
  const OpCheck op(kName);
  check_range(op, range);
  op.flat("first_moment", range.first_moment, range.param.dtype, range.param.elements(),
          required_if(step.momentum != 0));
  op.absent("second_moment", range.second_moment, "SGD has none");
}

void MuonMomentum::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("out", out), acc = accumulator_of(act);
  const int64_t R = out.rows(), C = out.cols();
  op.matrix("out", out, act, R, C, Layout::kContiguous);
  op.matrix("grad", grad, acc, R, C, Layout::kContiguous);
  op.matrix("momentum", momentum, acc, R, C, Layout::kContiguous);
}

void MatrixSum::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("out", out);
  const int64_t n = out.rows();
  op.matrix("out", out, act, n, n, Layout::kContiguous);
  op.matrix("x", x, act, n, n, Layout::kContiguous);
  op.matrix("y", y, act, n, n, Layout::kContiguous);
}

void Sum::check() const { check_summed(OpCheck(kName), x); }

void SumOfSquares::check() const { check_summed(OpCheck(kName), x); }

}  // namespace sluice
