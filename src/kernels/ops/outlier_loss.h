// A loss on large activations (TWEO, arXiv 2511.23225), and its gradient. The formulas:
// kernels/formulas/outlier_loss.h. Conventions: kernels/ops.h.
#pragma once

#include "kernels/types/tensor.h"

namespace sluice {

// loss += value_scale sum over all n, c of (x / limit)^4;  d_x += grad_scale 4 x^3 / limit^4
struct OutlierLoss {
  static constexpr const char* kName = "outlier_loss";
  Tensor x;     // [N, C] act, strided
  Tensor d_x;   // [N, C] act, strided
  Tensor loss;  // [1] acc
  double limit = 1, value_scale = 0, grad_scale = 0;
  void for_tensors(auto f) { f(x), f(d_x), f(loss); }
  void check() const;
};

}  // namespace sluice
