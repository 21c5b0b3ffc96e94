#include "kernels/ops/dropout.h"

#include "kernels/ops/check.h"

namespace sluice {

void DropoutMask::check(const OpCheck& op, int64_t rows, int64_t sequences) const {
  op.flat("keys", keys, DType::kI32, 2 * sequences);
  op.require(sequences > 0 && rows % sequences == 0, "sequences must have as many rows each");
  op.require(probability >= 0 && probability <= 1 - 0x1p-16, "a probability is from 0 to less than 1");
}

void Dropout::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("x", x);
  op.matrix("x", x, act, x.rows(), x.cols());
  op.matrix("out", out, act, x.rows(), x.cols());
  op.require_present("keys", mask.keys);
  mask.check(op, x.rows(), mask.sequences());
}

}  // namespace sluice
