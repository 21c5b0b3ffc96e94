#include "kernels/ops/cores/linear_attention.h"

#include "kernels/ops/cores/check_heads.h"

namespace sluice {
namespace {

DType check_inputs(const OpCheck& op, const LinearAttentionForward& args) {
  op.require(args.decay >= 0, "what is forgotten does not grow");
  return check_heads(op, args.shape, args.q, args.k, args.v, args.first_key);
}

}  // namespace

void LinearAttentionForward::check() const {
  const OpCheck op(kName);
  const DType act = check_inputs(op, *this);
  op.matrix("out", out, act, q.rows(), shape.heads().result_columns());
  op.matrix("state", state, accumulator_of(act), shape.B * shape.H * shape.D_qk, shape.D_v, Layout::kContiguous,
            Presence::kOptional);
  op.require(!resume || state, "rows go on from a state");
}

void LinearAttentionForward::check_values() const { OpCheck(kName).documents(first_key, shape.T); }

void LinearAttentionBackward::check() const {
  const OpCheck op(kName);
  const DType act = check_inputs(op, forward);
  op.matrix("d_out", d_out, act, forward.q.rows(), forward.shape.heads().result_columns());
  check_head_gradients(op, forward.shape, act, forward.state, d_q, d_k, d_v);
}

void LinearAttentionBackward::check_values() const { OpCheck(kName).documents(forward.first_key, forward.shape.T); }

}  // namespace sluice
