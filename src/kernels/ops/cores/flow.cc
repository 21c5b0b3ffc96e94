#include "kernels/ops/cores/flow.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

DType check_flow(const OpCheck& op, const FlowForward& args) {
  const AttentionShape& s = args.shape;
  op.require(s.B > 0 && s.T > 0, "no rows");
  op.require(s.KV > 0 && s.H > 0 && s.H % s.KV == 0, "every key/value head needs as many query heads");
  op.require(s.D_qk > 0 && s.D_v > 0 && s.D_qk <= kMaxHeadSize && s.D_v <= kMaxHeadSize, "a head's features");
  const DType act = op.activation_type("q", args.q);
  const int64_t N = s.B * s.T;
  const HeadSizes heads = s.heads();
  op.matrix("q", args.q, act, N, heads.query_columns());
  op.matrix("k", args.k, act, N, heads.key_columns());
  op.matrix("v", args.v, act, N, heads.value_columns());
  op.matrix("logits", args.logits, act, N, s.H);
  op.flat("first_key", args.first_key, DType::kI32, N, Presence::kOptional);
  op.flat("stats", args.stats, accumulator_of(act), 4 * s.B * s.H * s.T);
  return act;
}

}  // namespace

void FlowForward::check() const {
  const OpCheck op(kName);
  const DType act = check_flow(op, *this);
  const HeadSizes heads = shape.heads();
  op.matrix("queries", queries, act, q.rows(), heads.query_columns());
  op.matrix("keys", keys, act, q.rows(), heads.query_columns());
  op.matrix("values", values, act, q.rows(), heads.result_columns());
  op.matrix("state", state, accumulator_of(act), shape.B * shape.H, 4 * shape.D_qk + 2, Layout::kContiguous,
            Presence::kOptional);
  op.require(!resume || state, "rows go on from a state");
}

void FlowForward::check_values() const { OpCheck(kName).documents(first_key, shape.T); }

void FlowBackward::check() const {
  const OpCheck op(kName);
  const DType act = check_flow(op, forward);
  op.absent("state", forward.state, "gradients are those of whole sequences");
  const int64_t N = forward.q.rows();
  const HeadSizes heads = forward.shape.heads();
  op.matrix("d_queries", d_queries, act, N, heads.query_columns());
  op.matrix("d_keys", d_keys, act, N, heads.query_columns());
  op.matrix("d_values", d_values, act, N, heads.result_columns());
  op.matrix("d_logits", d_logits, act, N, forward.shape.H);
  op.matrix("d_q", d_q, act, N, heads.query_columns());
  op.matrix("d_k", d_k, act, N, heads.key_columns());
  op.matrix("d_v", d_v, act, N, heads.value_columns());
}

void FlowBackward::check_values() const { OpCheck(kName).documents(forward.first_key, forward.shape.T); }

}  // namespace sluice
