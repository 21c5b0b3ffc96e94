#include "kernels/ops/key_only.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

void check_averages(const OpCheck& op, const KeyOnlyForward& args) {
  const AttentionShape& s = args.shape;
  op.require(s.B > 0 && s.T > 0, "no rows");
  op.require(s.KV > 0 && s.H > 0 && s.H % s.KV == 0, "every key/value head needs as many query heads");
  op.require(s.D_qk > 0 && s.D_v > 0 && s.D_qk <= kMaxHeadSize && s.D_v <= kMaxHeadSize, "a head's features");
  const DType act = op.activation_type("q", args.q), acc = accumulator_of(act);
  const int64_t N = s.B * s.T;
  const HeadSizes heads = s.heads();
  op.matrix("q", args.q, act, N, heads.query_columns());
  op.matrix("k", args.k, act, N, heads.key_columns());
  op.matrix("v", args.v, act, N, heads.value_columns());
  op.matrix("out", args.out, act, N, heads.result_columns());
  op.flat("betas", args.betas, acc, s.B * s.H * s.T);
  op.flat("first_key", args.first_key, DType::kI32, N, Presence::kOptional);
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
  op.absent("state", forward.state, "gradients are those of whole sequences");
  const int64_t N = forward.q.rows();
  const HeadSizes heads = forward.shape.heads();
  const DType act = forward.q.dtype;
  op.matrix("d_out", d_out, act, N, heads.result_columns());
  op.matrix("d_q", d_q, act, N, heads.query_columns());
  op.matrix("d_k", d_k, act, N, heads.key_columns());
  op.matrix("d_v", d_v, act, N, heads.value_columns());
}

void KeyOnlyBackward::check_values() const { OpCheck(kName).documents(forward.first_key, forward.shape.T); }

}  // namespace sluice
