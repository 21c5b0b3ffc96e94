#include "kernels/ops/outlier_loss.h"

#include "kernels/ops/check.h"

namespace sluice {

void OutlierLoss::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("x", x);
  op.matrix("x", x, act, x.rows(), x.cols());
  op.matrix("d_x", d_x, act, x.rows(), x.cols());
  op.flat("loss", loss, accumulator_of(act), 1);
  op.require(limit > 0, "the limit must be above 0");
}

}  // namespace sluice
