#include "kernels/ops/stages/gather_rows.h"

#include "kernels/ops/check.h"

namespace sluice {

void GatherRows::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("x", x);
  op.require(sequences > 0 && x.rows() % sequences == 0 && out.rows() % sequences == 0,
             "the rows must be those of whole sequences");
  op.flat("index", index, DType::kI32, out.rows());
  op.matrix("out", out, act, out.rows(), x.cols());
}

void GatherRows::check_values() const { OpCheck(kName).indices("index", index, x.rows() / sequences, true); }

}  // namespace sluice
