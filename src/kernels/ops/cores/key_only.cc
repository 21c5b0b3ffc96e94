#include "kernels/ops/cores/key_only.h"

#include "kernels/ops/cores/check_heads.h"

namespace sluice {
namespace {

void check_averages(const OpCheck& op, const KeyOnlyForward& args) {
  const AttentionShape& s = args.shape;
  const DType act = check_heads(op, s, args.q, args.k, args.v, args.first_key), acc = accumulator_of(act);
  op.matrix("out", args.out, act, s.B * s.T, s.heads().result_columns());
  op.flat("betas", args.betas, acc, s.B * s.H * s.T);
}

}  // namespace

void KeyOnlyForward::check() const {
  const OpCheck op(kName);
  check_averages(op, *this);
  const int64_t columns = shape.H * (shape.D_v + 2);
  op.matrix("state", state, accumulator_of(q.dtype), shape.B, columns, Layout::kContiguous, Presence::kOptional);
  op.require(!resume || state, "rows go on from a state");
}

void KeyOnlyForward::check_values() const { OpCheck(kName).documents(first_key, shape.T); }

void KeyOnlyBackward::check() const {
  const OpCheck op(kName);
  check_averages(op, forward);
  const DType act = forward.q.dtype;
  op.matrix("d_out", d_out, act, forward.q.rows(), forward.shape.heads().result_columns());
  check_head_gradients(op, forward.shape, act, forward.state, d_q, d_k, d_v);
}

void KeyOnlyBackward::check_values() const { OpCheck(kName).documents(forward.first_key, forward.shape.T); }

}  // namespace sluice
