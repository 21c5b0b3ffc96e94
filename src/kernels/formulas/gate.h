// The sigmoid gate out = g x with g = sigmoid(logit), and its gradient, for one value or one SIMD vector V.
#pragma once

#include "kernels/formulas/math.h"

namespace sluice {

template <class V>
SLUICE_FORMULA V gate_of(V logit) {
  return sigmoid_of(logit);
}

// d logit, where `dot` is d_out . x over the columns that share the gate.
template <class V>
SLUICE_FORMULA V gate_logit_gradient(V gate, V dot) {
  return gate * (V(1) - gate) * dot;
}

}  // namespace sluice
