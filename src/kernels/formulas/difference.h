// Differences of attention heads: where heads and those that are taken from them lie, and the formulas of one value.
//
// x holds blocks side by side, each of `signal * noise` heads and then of `noise` heads: head j of the latter is taken
// from heads j signal, j signal + 1, ... of the former. All blocks together make `heads` results.
#pragma once

#include <cstdint>

#include "kernels/formulas/math.h"

namespace sluice {

struct DifferenceLayout {
  int64_t heads = 1;   // of the result
  int64_t signal = 1;  // heads from which one and the same is taken
  int64_t noise = 1;   // such heads side by side, in each block

  SLUICE_FORMULA int64_t noise_heads() const { return heads / signal; }
  SLUICE_FORMULA int64_t all_heads() const { return heads + noise_heads(); }
  // The head of x from which result h comes, and that which is taken from results j signal ... (j + 1) signal - 1.
  SLUICE_FORMULA int64_t signal_at(int64_t h) const { return h + h / (signal * noise) * noise; }
  SLUICE_FORMULA int64_t noise_at(int64_t j) const { return (j / noise + 1) * signal * noise + j; }
};

template <class V>
SLUICE_FORMULA V less(V signal, V noise, V factor) {
  return signal - factor * noise;
}

// A learned factor: lambda in [0, 1], its nearest end outside; there it learns nothing. A NaN stays one.
template <class V>
SLUICE_FORMULA V clamped_factor(V lambda) {
  return select(lambda < V(0), V(0), select(lambda > V(1), V(1), lambda));
}

template <class V>
SLUICE_FORMULA V clamped_factor_gradient(V lambda, V d_factor) {
  return select(lambda < V(0), V(0), select(lambda > V(1), V(0), d_factor));
}

// The factor's gradient, where `dot` is d_out . noise over the head's columns.
template <class V>
SLUICE_FORMULA V difference_factor_gradient(V dot) {
  return V(0) - dot;
}

}  // namespace sluice
