// Differences of attention heads (arXiv 2410.05258, 2510.06949), and a factor that a layer learns for all of them.
// Where heads lie, and the formulas: kernels/formulas/difference.h. Conventions: kernels/ops.h.
#pragma once

#include "kernels/formulas/difference.h"
#include "kernels/types/tensor.h"

namespace sluice {

// out_h = x_signal(h) - f_h x_noise(h / signal).  f_h is sigmoid(lambda_h), a number for each row and head; or the one
// number lambda; or, clamped, min(max(lambda_h, 0), 1), a number for each head.
struct DifferenceForward {
  static constexpr const char* kName = "difference_forward";
  static constexpr int64_t kMostSignals = 1024;
  DifferenceLayout layout;
  Tensor x;       // [N, (H + H / signal) D] act, strided
  Tensor lambda;  // [N, H] act, strided; or [1] acc; or [H] acc
  Tensor out;     // [N, H*D] act, strided
  bool clamped = false;
  SLUICE_ACCESSOR bool has_logits() const { return lambda.shape.rank() == 2; }
  void for_tensors(auto f) { f(x), f(lambda), f(out); }
  void check() const;
};

struct DifferenceBackward {
  static constexpr const char* kName = "difference_backward";
  DifferenceForward forward;  // without out
  Tensor d_out;               // [N, H*D] act, strided
  Tensor d_x;                 // like x; overwritten
  Tensor d_lambda;            // [N, H] act, strided; overwritten: of the logits, or each row's share in lambda's
  void for_tensors(auto f) { forward.for_tensors(f), f(d_out), f(d_x), f(d_lambda); }
  void check() const;
};

// out = e^(q1 . k1) - e^(q2 . k2) + initial: the factor of Diff V1 (arXiv 2410.05258)
struct DifferenceFactorForward {
  static constexpr const char* kName = "difference_factor_forward";
  double initial = 0;
  Tensor vectors;  // [4, D] acc: q1, k1, q2, k2
  Tensor out;      // [1] acc
  void for_tensors(auto f) { f(vectors), f(out); }
  void check() const;
};

struct DifferenceFactorBackward {
  static constexpr const char* kName = "difference_factor_backward";
  Tensor vectors;    // [4, D] acc
  Tensor d_out;      // [H] acc: its sum is the factor's gradient
  Tensor d_vectors;  // [4, D] acc
  bool accumulate = false;
  void for_tensors(auto f) { f(vectors), f(d_out), f(d_vectors); }
  void check() const;
};

}  // namespace sluice
