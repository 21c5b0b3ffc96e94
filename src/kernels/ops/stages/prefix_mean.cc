#include "kernels/ops/stages/prefix_mean.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

// The type of `x`.
DType check_sequences(const OpCheck& op, const char* what, const Tensor& x, const Tensor& first_key, int64_t T,
                      double divisor) {
  const DType act = op.activation_type(what, x);
  op.require(T > 0 && x.rows() % T == 0, "the rows must be whole sequences");
  op.require(divisor >= 0, "divisor must not be negative");
  op.flat("first_key", first_key, DType::kI32, x.rows(), Presence::kOptional);
  return act;
}

}  // namespace

void PrefixMean::check() const {
  const OpCheck op(kName);
  const DType act = check_sequences(op, "x", x, first_key, T, divisor);
  op.require(first_position >= 0 && (first_position == 0 || sums), "rows before these need their sums");
  if (sums) {
    op.absent("first_key", first_key, "sums are those of one document");
    op.matrix("sums", sums, accumulator_of(act), x.rows() / T, x.cols(), Layout::kContiguous);
  }
  op.matrix("out", out, act, x.rows(), x.cols());
}

void PrefixMean::check_values() const { OpCheck(kName).documents(first_key, T); }

void PrefixMeanBackward::check() const {
  const OpCheck op(kName);
  const DType act = check_sequences(op, "d_out", d_out, first_key, T, divisor);
  op.matrix("d_x", d_x, act, d_out.rows(), d_out.cols());
}

void PrefixMeanBackward::check_values() const { OpCheck(kName).documents(first_key, T); }

}  // namespace sluice
