#include "kernels/ops/cores/flow.h"

#include "kernels/ops/cores/check_heads.h"

namespace sluice {
namespace {

DType check_flow(const OpCheck& op, const FlowForward& args) {
  const AttentionShape& s = args.shape;
  const DType act = check_heads(op, s, args.q, args.k, args.v, args.first_key);
  op.matrix("logits", args.logits, act, args.q.rows(), s.H);
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
  const int64_t N = forward.q.rows();
  const HeadSizes heads = forward.shape.heads();
  op.matrix("d_queries", d_queries, act, N, heads.query_columns());
  op.matrix("d_keys", d_keys, act, N, heads.query_columns());
  op.matrix("d_values", d_values, act, N, heads.result_columns());
  op.matrix("d_logits", d_logits, act, N, forward.shape.H);
  check_head_gradients(op, forward.shape, act, forward.state, d_q, d_k, d_v);
}

void FlowBackward::check_values() const { OpCheck(kName).documents(forward.first_key, forward.shape.T); }

}  // namespace sluice
