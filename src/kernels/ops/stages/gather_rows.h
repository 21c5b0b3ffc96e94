// Rows by their numbers: in another order, some of them, or back to where they came from. Conventions: kernels/ops.h.
#pragma once

#include "kernels/types/tensor.h"

namespace sluice {

// Of every one of `sequences`: out's row i is x's row index[i], and zeros where index[i] is negative.
struct GatherRows {
  static constexpr const char* kName = "gather_rows";
  int64_t sequences = 0;
  Tensor x;      // [sequences * rows, C] act, strided
  Tensor index;  // [N] i32: below `rows`; negative: no row
  Tensor out;    // [N, C] act, strided
  void for_tensors(auto f) { f(x), f(index), f(out); }
  void check() const;
  void check_values() const;
};

}  // namespace sluice
