#include "kernels/ops/quantize.h"

#include "kernels/ops/check.h"

namespace sluice {

void FakeQuantize::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("x", x);
  op.matrix("x", x, act, x.rows(), x.cols());
  op.matrix("out", out, act, x.rows(), x.cols());
  op.require_present("scale", scale);
  op.flat("scale", scale, accumulator_of(act), scale.elements() == 1 ? 1 : x.rows());
  op.require(low <= 0 && high >= 0 && low >= -0x1p20 && high <= 0x1p20,
             "low and high must enclose 0 and lie within 2^20 of it");
}

void RowRanges::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("x", x);
  op.matrix("x", x, act, x.rows(), x.cols());
  op.require(x.cols() > 0, "a row without elements has no range");
  op.matrix("out", out, accumulator_of(act), x.rows(), 2, Layout::kContiguous);
}

}  // namespace sluice
