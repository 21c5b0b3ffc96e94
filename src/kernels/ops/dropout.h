// Dropout by counted random numbers. The formulas: kernels/formulas/dropout.h. Conventions: kernels/ops.h.
#pragma once

#include "kernels/types/tensor.h"

namespace sluice {

class OpCheck;

// By what a mask is drawn. The keys lie in the device's memory: a recorded op has another mask in each step.
struct DropoutMask {
  Tensor keys = {};    // [B, 2] i32: of each sequence its dropout_key, the low word first; absent: nothing is dropped
  uint32_t place = 0;  // in the model
  double probability = 0;  // that a value is dropped, in [0, 1)

  explicit operator bool() const { return bool(keys); }
  int64_t sequences() const { return keys.elements() / 2; }
  void check(const OpCheck& op, int64_t rows, int64_t sequences) const;
};

// out = m x / (1 - p); the gradient of x from that of out is the same op. Of row n, sequence n / (N / B) is drawn for.
struct Dropout {
  static constexpr const char* kName = "dropout";
  Tensor out, x;  // [N, C] act, strided; may be the same
  DropoutMask mask;
  void for_tensors(auto f) { f(out), f(x), f(mask.keys); }
  void check() const;
};

}  // namespace sluice
