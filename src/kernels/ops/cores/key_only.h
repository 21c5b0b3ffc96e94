// Running averages of values by the keys' own scores. The formulas: kernels/formulas/key_only.h. Conventions:
// kernels/ops.h.
#pragma once

#include "kernels/types/attention_types.h"
#include "kernels/types/tensor.h"

namespace sluice {

struct KeyOnlyForward {
  static constexpr const char* kName = "key_only_forward";
  AttentionShape shape;
  double scale = 1;
  Tensor q;               // [N, H*D_qk] act, strided
  Tensor k;               // [N, KV*D_qk] act, strided
  Tensor v;               // [N, KV*D_v] act, strided
  Tensor first_key = {};  // [N] i32, or absent for 0: the first position that a row averages over, see AttentionForward
  Tensor out;             // [N, H*D_v] act, strided
  Tensor betas;           // [B, H, T] acc
  // [B, H*(D_v + 2)] acc, or absent: a head's last average, then its RunningMass. `resume`: the rows go on from there.
  Tensor state = {};
  bool resume = false;
  void for_tensors(auto f) { f(q), f(k), f(v), f(first_key), f(out), f(betas), f(state); }
  void check() const;
  void check_values() const;
};

struct KeyOnlyBackward {
  static constexpr const char* kName = "key_only_backward";
  KeyOnlyForward forward;  // as it was run, without state; out and betas hold its results
  Tensor d_out;            // [N, H*D_v] act, strided
  Tensor d_q, d_k, d_v;    // like q, k, v; overwritten
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
