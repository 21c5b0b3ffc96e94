// The order of rows in a permutation's slots, for attention within windows of it. Conventions: kernels/ops.h.
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

}  // namespace sluice
