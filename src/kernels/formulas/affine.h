// Affine-scaled attention (arXiv 2602.23057): weights a p_ij + (m - a) / L_i in the place of p_ij, with a = phi(z) of
// the row and head and m the moving average of a. With y the core's result and u the sum of the values that the row
// sees over L_i,
//
//   out = a y + (m - a) u = a (y - u) + m u
//
// Backward, with d = dL/d(out):   dL/dy = a d,   dL/du = (m - a) d,   dL/dz = phi'(z) d . (y - u);   m is a constant.
#pragma once

#include <cstdint>

#include "kernels/formulas/math.h"

namespace sluice {

enum class AffinePhi : uint8_t {
  kLinear,  // (z + 5) / 10, clipped to [0, 1]
  kSigmoid,
};

template <class V>
SLUICE_FORMULA V phi_of(AffinePhi phi, V z) {
  if (phi == AffinePhi::kSigmoid) return sigmoid_of(z);
  return select(z <= V(-5), V(0), select(z >= V(5), V(1), (z + V(5)) / V(10)));
}

template <class V>
SLUICE_FORMULA V phi_slope(AffinePhi phi, V z) {
  if (phi == AffinePhi::kSigmoid) {
    const V a = sigmoid_of(z);
    return a * (V(1) - a);
  }
  return select(z <= V(-5), V(0), select(z >= V(5), V(0), V(1) / V(10)));
}

template <class V>
SLUICE_FORMULA V affine_result(V y, V u, V a, V m) {
  return a * (y - u) + m * u;
}

}  // namespace sluice
