// Exclusive self-attention (XSA, arXiv 2603.09078): a head's result without what it has along its row's own value. The
// formulas: kernels/formulas/exclude_self.h. Conventions: kernels/ops.h.
#pragma once

#include "kernels/types/tensor.h"

namespace sluice {

// out_h = y_h - (y_h . v_g) / |v_g|^2 v_g,  g the key/value head of h; y_h where v_g is zero. out may be y.
struct ExcludeSelfForward {
  static constexpr const char* kName = "exclude_self_forward";
  static constexpr int64_t kMostFeatures = 512;  // of a head
  int64_t heads = 0, kv_heads = 0;
  Tensor y;    // [N, H*D] act, strided
  Tensor v;    // [N, KV*D] act, strided
  Tensor out;  // [N, H*D] act, strided
  void for_tensors(auto f) { f(y), f(v), f(out); }
  void check() const;
};

// d_y may be d_out. d_v is that of all heads of a group.
struct ExcludeSelfBackward {
  static constexpr const char* kName = "exclude_self_backward";
  ExcludeSelfForward forward;  // without out
  Tensor d_out;                // [N, H*D] act, strided
  Tensor d_y;                  // [N, H*D] act, strided
  Tensor d_v;                  // [N, KV*D] act, strided
  void for_tensors(auto f) { forward.for_tensors(f), f(d_out), f(d_y), f(d_v); }
  void check() const;
};

}  // namespace sluice
