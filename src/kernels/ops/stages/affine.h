// Affine-scaled attention (arXiv 2602.23057). The formulas: kernels/formulas/affine.h. Conventions: kernels/ops.h.
#pragma once

#include "kernels/formulas/affine.h"
#include "kernels/types/tensor.h"

namespace sluice {

// out_h = a (y_h - u_g) + m_h u_g,  a = phi(logits_h), g the key/value head of h. out may be y.
struct AffineForward {
  static constexpr const char* kName = "affine_forward";
  static constexpr int64_t kMostFeatures = 512;  // of a head
  AffinePhi phi = AffinePhi::kLinear;
  int64_t heads = 0, kv_heads = 0;
  Tensor y;        // [N, H*D] act, strided
  Tensor u;        // [N, KV*D] act, strided
  Tensor logits;   // [N, H] act, strided
  Tensor average;  // [H] acc: m
  Tensor out;      // [N, H*D] act, strided
  void for_tensors(auto f) { f(y), f(u), f(logits), f(average), f(out); }
  void check() const;
};

// d_y may be d_out. d_u is that of all heads of a group.
struct AffineBackward {
  static constexpr const char* kName = "affine_backward";
  AffineForward forward;  // without out
  Tensor d_out;           // [N, H*D] act, strided
  Tensor d_y;             // [N, H*D] act, strided
  Tensor d_u;             // [N, KV*D] act, strided
  Tensor d_logits;        // [N, H] act, strided
  void for_tensors(auto f) { forward.for_tensors(f), f(d_out), f(d_y), f(d_u), f(d_logits); }
  void check() const;
};

// mean_h += share times the mean over rows of phi(logits_h)
struct AffineMean {
  static constexpr const char* kName = "affine_mean";
  AffinePhi phi = AffinePhi::kLinear;
  double share = 1;
  Tensor logits;  // [N, H] act, strided
  Tensor mean;    // [H] acc
  void for_tensors(auto f) { f(logits), f(mean); }
  void check() const;
};

}  // namespace sluice
