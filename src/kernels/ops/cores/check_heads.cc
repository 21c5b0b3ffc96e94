#include "kernels/ops/cores/check_heads.h"

namespace sluice {

DType check_heads(const OpCheck& op, const AttentionShape& s, const Tensor& q, const Tensor& k, const Tensor& v,
                  const Tensor& first_key) {
  op.require(s.B > 0 && s.T > 0, "no rows");
  op.require(s.KV > 0 && s.H > 0 && s.H % s.KV == 0, "every key/value head needs as many query heads");
  op.require(s.D_qk > 0 && s.D_v > 0 && s.D_qk <= kMaxHeadSize && s.D_v <= kMaxHeadSize, "a head's features");
  const DType act = op.activation_type("q", q);
  const int64_t N = s.B * s.T;
  const HeadSizes heads = s.heads();
  op.matrix("q", q, act, N, heads.query_columns());
  op.matrix("k", k, act, N, heads.key_columns());
  op.matrix("v", v, act, N, heads.value_columns());
  op.flat("first_key", first_key, DType::kI32, N, Presence::kOptional);
  return act;
}

void check_head_gradients(const OpCheck& op, const AttentionShape& s, DType act, const Tensor& state, const Tensor& d_q,
                          const Tensor& d_k, const Tensor& d_v) {
  op.absent("state", state, "gradients are those of whole sequences");
  const int64_t N = s.B * s.T;
  const HeadSizes heads = s.heads();
  op.matrix("d_q", d_q, act, N, heads.query_columns());
  op.matrix("d_k", d_k, act, N, heads.key_columns());
  op.matrix("d_v", d_v, act, N, heads.value_columns());
}

}  // namespace sluice
