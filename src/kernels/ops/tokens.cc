#include "kernels/ops/tokens.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

void check_embedding(const OpCheck& op, const char* table_name, const Tensor& table, const char* positions_name,
                     const Tensor& positions, const char* registers_name, const Tensor& registers, const char* act_name,
                     const Tensor& act, const Tensor& tokens, int64_t T) {
  const DType acc = accumulator_of(op.activation_type(act_name, act));
  const int64_t N = act.rows(), C = act.cols();
  op.matrix(act_name, act, act.dtype, N, C);
  op.flat("tokens", tokens, DType::kI32, N);
  op.matrix(table_name, table, acc, table.rows(), C, Layout::kContiguous);
  op.require(T > 0, "T must be positive");
  if (registers) {
    op.matrix(registers_name, registers, acc, registers.rows(), C, Layout::kContiguous);
    if (registers.rows() > T) op.fail(registers_name, registers, fmt::format("at most T = {} rows", T));
  }
  if (!positions) return;
  const int64_t placed = T - register_rows(registers);
  op.matrix(positions_name, positions, acc, positions.rows(), C, Layout::kContiguous);
  if (positions.rows() < placed) op.fail(positions_name, positions, fmt::format("at least T - R = {} rows", placed));
}

}  // namespace

void EmbeddingForward::check() const {
  const OpCheck op(kName);
  check_embedding(op, "table", table, "positions", positions, "registers", registers, "out", out, tokens, T);
  if (segment) op.matrix("segment", segment, table.dtype, 1, out.cols(), Layout::kContiguous);
}

void EmbeddingForward::check_values() const { OpCheck(kName).indices("tokens", tokens, table.rows(), bool(registers)); }

void EmbeddingBackward::check() const {
  check_embedding(OpCheck(kName), "d_table", d_table, "d_positions", d_positions, "d_registers", d_registers, "d_out",
                  d_out, tokens, T);
}

void EmbeddingBackward::check_values() const {
  OpCheck(kName).indices("tokens", tokens, d_table.rows(), bool(d_registers));
}

void CrossEntropy::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("logits", logits);
  op.matrix("logits", logits, act, logits.rows(), logits.cols());
  op.flat("losses", losses, accumulator_of(act), logits.rows());
  op.flat("targets", targets, DType::kI32, logits.rows());
}

void CrossEntropy::check_values() const { OpCheck(kName).indices("targets", targets, logits.cols(), true); }

}  // namespace sluice
