// Accumulate: one tensor onto another, where nothing else that is done to it can carry the sum along. Conventions:
// kernels/ops.h.
#pragma once

#include "kernels/types/tensor.h"

namespace sluice {

// out += x
struct Accumulate {
  static constexpr const char* kName = "accumulate";
  Tensor out;  // [N, C] act, strided
  Tensor x;    // [N, C] act, strided
  void for_tensors(auto f) { f(out), f(x); }
  void check() const;
};

}  // namespace sluice
