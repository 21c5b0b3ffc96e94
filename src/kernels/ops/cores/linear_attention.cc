#include "kernels/ops/cores/linear_attention.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

// All but the results; returns the activations' type.
DType check_inputs(const OpCheck& op, const LinearAttentionForward& args) {
  const AttentionShape& s = args.shape;
  op.require(s.B > 0 && s.T > 0, "no rows");
  op.require(s.KV > 0 && s.H > 0 && s.H % s.KV == 0, "every key/value head needs as many query heads");
  op.require(s.D_qk > 0 && s.D_v > 0 && s.D_qk <= kMaxHeadSize && s.D_v <= kMaxHeadSize, "a head's features");
  op.require(args.decay >= 0, "what is forgotten does not grow");
  const DType act = op.activation_type("q", args.q);
  const int64_t N = s.B * s.T;
  const HeadSizes heads = s.heads();
  op.matrix("q", args.q, act, N, heads.query_columns());
  op.matrix("k", args.k, act, N, heads.key_columns());
  op.matrix("v", args.v, act, N, heads.value_columns());
  op.flat("first_key", args.first_key, DType::kI32, N, Presence::kOptional);
  return act;
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
  op.absent("state", forward.state, "gradients are those of whole sequences");
  const int64_t N = forward.q.rows();
  const HeadSizes heads = forward.shape.heads();
  op.matrix("d_out", d_out, act, N, heads.result_columns());
  op.matrix("d_q", d_q, act, N, heads.query_columns());
  op.matrix("d_k", d_k, act, N, heads.key_columns());
  op.matrix("d_v", d_v, act, N, heads.value_columns());
}

void LinearAttentionBackward::check_values() const { OpCheck(kName).documents(forward.first_key, forward.shape.T); }

}  // namespace sluice
