// Linear attention with decay: sums of values by unnormalised products of queries and keys, in time that grows with T.
// The formulas: kernels/formulas/linear_attention.h. Conventions: kernels/ops.h.
#pragma once

#include "kernels/types/attention_types.h"
#include "kernels/types/tensor.h"

namespace sluice {

struct LinearAttentionForward {
  static constexpr const char* kName = "linear_attention_forward";
  AttentionShape shape;
  double decay = 0;       // s_h = decay * head_slope(h, H); 0: nothing is forgotten
  Tensor q;               // [N, H*D_qk] act, strided
  Tensor k;               // [N, KV*D_qk] act, strided
  Tensor v;               // [N, KV*D_v] act, strided
  Tensor first_key = {};  // [N] i32, or absent for 0: the first position that a row sums over, see AttentionForward
  Tensor out;             // [N, H*D_v] act, strided
  // [B*H*D_qk, D_v] acc, or absent: the state after the last row. `resume`: the rows go on from it.
  Tensor state = {};
  bool resume = false;
  void for_tensors(auto f) { f(q), f(k), f(v), f(first_key), f(out), f(state); }
  void check() const;
  void check_values() const;
};

struct LinearAttentionBackward {
  static constexpr const char* kName = "linear_attention_backward";
  LinearAttentionForward forward;  // as it was run, without state; out is not read and may be absent
  Tensor d_out;                    // [N, H*D_v] act, strided
  Tensor d_q, d_k, d_v;            // like q, k, v; overwritten
  Tensor workspace = {};
  struct Sizes {
    AttentionShape shape;
    DType act = DType::kF32;
  };
  Sizes sizes() const { return {forward.shape, forward.q.dtype}; }
  void for_tensors(auto f) { forward.for_tensors(f), f(d_out), f(d_q), f(d_k), f(d_v), f(workspace); }
  void check() const;
  void check_values() const;
};

}  // namespace sluice
