// Rows of a sequence in the order of a permutation, for attention within windows of it. Conventions: kernels/ops.h.
#pragma once

#include "base/permutation.h"
#include "kernels/types/attention_types.h"
#include "kernels/types/tensor.h"

namespace sluice {

// Slot s of `permutation` holds the token at place permutation(s); a sequence of T tokens fills T of permutation.size
// slots, and its rows are those tokens, slot by slot. A row sees the tokens of its document up to its own whose slots
// are less than `reach` away.
struct WindowOrder {
  static constexpr const char* kName = "window_order";
  Permutation permutation;
  int64_t T = 0, reach = 0;
  Tensor first_key = {};  // [N] i32, or absent for 0: as in AttentionForward, by places
  Tensor order;           // [7, N] i32, by OrderPlane
  void for_tensors(auto f) { f(first_key), f(order); }
  void check() const;
  void check_values() const;
};

// Of every one of `sequences`: out's row i is x's row index[i].
struct GatherRows {
  static constexpr const char* kName = "gather_rows";
  int64_t sequences = 0;
  Tensor x;      // [sequences * rows, C] act, strided
  Tensor index;  // [N] i32: below `rows`
  Tensor out;    // [N, C] act, strided
  void for_tensors(auto f) { f(x), f(index), f(out); }
  void check() const;
  void check_values() const;
};

}  // namespace sluice
