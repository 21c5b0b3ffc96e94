// Flow-Attention, causal: what makes it of linear attention. The formulas: kernels/formulas/flow.h. Conventions:
// kernels/ops.h.
#pragma once

#include "kernels/types/attention_types.h"
#include "kernels/types/tensor.h"

namespace sluice {

// What linear attention without decay is given, a key and a value for every query head, and the logits of the gates
// that scale its results.
struct FlowForward {
  static constexpr const char* kName = "flow_forward";
  AttentionShape shape;
  Tensor q;               // [N, H*D_qk] act, strided
  Tensor k;               // [N, KV*D_qk] act, strided
  Tensor v;               // [N, KV*D_v] act, strided
  Tensor first_key = {};  // [N] i32, or absent for 0: where each row's sums begin, see AttentionForward
  Tensor queries, keys;   // [N, H*D_qk] act, strided: a_i I_i / n_i, b_i
  Tensor values;          // [N, H*D_v] act, strided: n_i x_i / E_i v_i
  Tensor logits;          // [N, H] act, strided: c_i
  Tensor stats;           // [4, B, H, T] acc: I, O, w, E
  // [B*H, 4*D_qk + 2] acc, or absent: K, Q, M, L, E and n after the last row. `resume`: the rows go on from them.
  Tensor state = {};
  bool resume = false;
  void for_tensors(auto f) {
    f(q), f(k), f(v), f(first_key), f(queries), f(keys), f(values), f(logits), f(stats), f(state);
  }
  void check() const;
  void check_values() const;
};

struct FlowBackward {
  static constexpr const char* kName = "flow_backward";
  FlowForward forward;        // as it was run, without state; stats and logits hold its results
  Tensor d_queries, d_keys;   // [N, H*D_qk] act, strided
  Tensor d_values, d_logits;  // [N, H*D_v], [N, H] act, strided
  Tensor d_q, d_k, d_v;       // like q, k, v; overwritten
  Tensor workspace = {};
  struct Sizes {
    AttentionShape shape;
    DType act = DType::kF32;
  };
  Sizes sizes() const { return {forward.shape, forward.q.dtype}; }
  // Accumulators that a head of a sequence has there: [T, D_qk] of a, then of b, [T, D_v] of v, [3, T] of scalars.
  SLUICE_ACCESSOR static int64_t of_head(const AttentionShape& s) { return s.T * (2 * s.D_qk + s.D_v + 3); }
  void for_tensors(auto f) {
    forward.for_tensors(f), f(d_queries), f(d_keys), f(d_values), f(d_logits), f(d_q), f(d_k), f(d_v), f(workspace);
  }
  void check() const;
  void check_values() const;
};

}  // namespace sluice
