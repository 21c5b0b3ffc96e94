#include "kernels/ops/accumulate.h"

#include "kernels/ops/check.h"

namespace sluice {

void Accumulate::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("x", x);
  op.matrix("out", out, act, x.rows(), x.cols());
}

}  // namespace sluice
