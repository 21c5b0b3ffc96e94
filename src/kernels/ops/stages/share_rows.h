// Rows of one sequence in the place of every other's: queries and keys that all sequences have in common. Conventions:
// kernels/ops.h.
#pragma once

#include "kernels/types/tensor.h"

namespace sluice {

// out[b T + t] = x[t] for the B sequences of `out`, T the rows of x.
struct ShareRowsForward {
  static constexpr const char* kName = "share_rows_forward";
  Tensor out;  // [B T, C] act, strided
  Tensor x;    // [T, C] act, strided; no part of out
  void for_tensors(auto f) { f(out), f(x); }
  void check() const;
};

// d_x[t] += sum over b, in order, of d_out[b T + t]; the sum is rounded once.
struct ShareRowsBackward {
  static constexpr const char* kName = "share_rows_backward";
  Tensor d_x;    // [T, C] act, strided; no part of d_out
  Tensor d_out;  // [B T, C] act, strided
  void for_tensors(auto f) { f(d_x), f(d_out); }
  void check() const;
};

}  // namespace sluice
