// The gate out = g x with g = sigmoid(logit), or the logit itself, and its gradient, for one value or one SIMD vector
// V.
#pragma once

#include "kernels/formulas/math.h"
#include "kernels/types/op_types.h"

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

struct SigmoidGate {
  template <class V>
  static SLUICE_FORMULA V of(V logit) {
    return gate_of(logit);
  }
  template <class V>
  static SLUICE_FORMULA V d_logit(V gate, V dot) {
    return gate_logit_gradient(gate, dot);
  }
};

struct PlainGate {
  template <class V>
  static SLUICE_FORMULA V of(V logit) {
    return logit;
  }
  template <class V>
  static SLUICE_FORMULA V d_logit(V, V dot) {
    return dot;
  }
};

// Calls body(G{}) with the gate's formula G.
template <class Body>
SLUICE_FORMULA void with_gate(GateActivation activation, Body body) {
  if (activation == GateActivation::kSigmoid) body(SigmoidGate{});
  else body(PlainGate{});
}

}  // namespace sluice
