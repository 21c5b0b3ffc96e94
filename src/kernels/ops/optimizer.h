// Updates of parameters, and the sums that clipping and the loss need. Conventions: kernels/ops.h; formulas:
// kernels/formulas/optimizer.h.
#pragma once

#include "kernels/types/op_types.h"
#include "kernels/types/tensor.h"

namespace sluice {

// One flat range of parameters with its state; every tensor [n] acc.
struct OptimizerRange {
  Tensor param, grad, first_moment = {}, second_moment = {};  // second_moment absent for SGD
  Tensor compute_copy = {};                                   // [n] bf16 copy that matmuls read, or absent
  double weight_decay = 0;
  void for_tensors(auto f) { f(param), f(grad), f(first_moment), f(second_moment), f(compute_copy); }
};

struct AdamWUpdate {
  static constexpr const char* kName = "adamw_update";
  OptimizerRange range;
  AdamWStep step;
  void for_tensors(auto f) { range.for_tensors(f); }
  void check() const;
};

struct SgdUpdate {
  static constexpr const char* kName = "sgd_update";
  OptimizerRange range;  // first_moment may be absent where the momentum is 0
  SgdStep step;
  void for_tensors(auto f) { range.for_tensors(f); }
  void check() const;
};

// Muon's momentum (Nesterov's) and what its iteration starts from: g = grad_scale grad;
// momentum = beta momentum + (1 - beta) g;  u = beta momentum + (1 - beta) g;  out = u / |u|, the Frobenius norm; 0
// where u is.
struct MuonMomentum {
  static constexpr const char* kName = "muon_momentum";
  Tensor grad, momentum;  // [R, C] acc, contiguous
  Tensor out;             // [R, C] act, contiguous
  double beta = 0.95;
  double grad_scale = 1;  // clipping
  void for_tensors(auto f) { f(grad), f(momentum), f(out); }
  void check() const;
};

// out = a I + b x + c y, all [n, n] act, contiguous; out may be x or y.
struct MatrixSum {
  static constexpr const char* kName = "matrix_sum";
  Tensor out, x, y;
  double a = 0, b = 1, c = 1;
  void for_tensors(auto f) { f(out), f(x), f(y); }
  void check() const;
};

// The sum of x, act and contiguous; deterministic. Waits for the device.
struct Sum {
  static constexpr const char* kName = "sum";
  Tensor x;
  using Result = double;
  Result* result = nullptr;  // set by run()
  void for_tensors(auto f) { f(x); }
  void check() const;
};

struct SumOfSquares {
  static constexpr const char* kName = "sum_of_squares";
  Tensor x;
  using Result = double;
  Result* result = nullptr;
  void for_tensors(auto f) { f(x); }
  void check() const;
};

}  // namespace sluice
