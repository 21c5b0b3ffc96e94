// Simulated quantization. Conventions: kernels/ops.h.
#pragma once

#include "kernels/types/tensor.h"

namespace sluice {

// out = scale * clamp(round(x / scale), low, high), halves to even (formulas/quantize.h).
struct FakeQuantize {
  static constexpr const char* kName = "fake_quantize";
  Tensor x, out;             // [N, C] act, strided; may be the same
  Tensor scale;              // [1] acc, or [N]: one for each row
  double low = 0, high = 0;  // integers, counted from the zero point: low <= 0 <= high, below 2^20
  void for_tensors(auto f) { f(x), f(out), f(scale); }
  void check() const;
};

// out[n] = the least and the greatest element of x[n], both NaN where one is not finite
struct RowRanges {
  static constexpr const char* kName = "row_ranges";
  Tensor out;  // [N, 2] acc
  Tensor x;    // [N, C] act, strided
  void for_tensors(auto f) { f(out), f(x); }
  void check() const;
};

}  // namespace sluice
