#include "kernels/ops/stages/share_rows.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

void check_rows(const OpCheck& op, const char* one_name, const Tensor& one, const char* all_name, const Tensor& all) {
  const DType act = op.activation_type(one_name, one);
  op.matrix(one_name, one, act, one.rows(), one.cols());
  op.matrix(all_name, all, act, all.rows(), one.cols());
  op.require(one.rows() > 0 && all.rows() % one.rows() == 0, "whole sequences of as many rows as the shared one has");
}

}  // namespace

void ShareRowsForward::check() const { check_rows(OpCheck(kName), "x", x, "out", out); }

void ShareRowsBackward::check() const { check_rows(OpCheck(kName), "d_x", d_x, "d_out", d_out); }

}  // namespace sluice
