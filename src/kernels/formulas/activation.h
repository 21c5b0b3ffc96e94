// Activation functions of the MLP and their gradients, for one value or one SIMD vector V of scalars T.
//
// relu(x) = max(x, 0); a NaN passes through, and the gradient at 0 is 0.
// gelu(x) = x/2 (1 + tanh u) with u = sqrt(2/pi) (x + 0.044715 x^3), the tanh form of GPT-2. Because
// (1 + tanh u) / 2 = sigmoid(2u), gelu(x) = x s with s = sigmoid(2u), and gelu'(x) = s + 2 x s (1 - s) u'.
// relu_squared(x) = max(x, 0)^2 (arXiv 2109.08668).
// SwiGLU (arXiv 2002.05202) has two arguments: silu(gate) up with silu(g) = g sigmoid(g).
#pragma once

#include "kernels/formulas/math.h"
#include "kernels/op_types.h"

namespace sluice {

struct Relu {
  template <class T, class V>
  static SLUICE_FORMULA V forward(V x) {
    return select(x < V(0), V(0), x);
  }
  // d_out * f'(x); `value` receives f(x).
  template <class T, class V>
  static SLUICE_FORMULA V backward(V d_out, V x, V& value) {
    value = forward<T>(x);
    return select(x <= V(0), V(0), d_out);
  }
};

struct Gelu {
  static constexpr double kTwiceRoot = 1.5957691216057308;  // 2 sqrt(2/pi)
  static constexpr double kCubic = 0.044715;

  // sigmoid(2u)
  template <class T, class V>
  static SLUICE_FORMULA V weight(V x, V square) {
    return sigmoid_of(x * (V(T(kTwiceRoot)) + V(T(kTwiceRoot * kCubic)) * square));
  }
  template <class T, class V>
  static SLUICE_FORMULA V forward(V x) {
    return x * weight<T>(x, x * x);
  }
  template <class T, class V>
  static SLUICE_FORMULA V backward(V d_out, V x, V& value) {
    const V square = x * x;
    const V s = weight<T>(x, square);
    value = x * s;
    const V slope = V(T(kTwiceRoot)) + V(T(3 * kTwiceRoot * kCubic)) * square;  // 2u'
    return d_out * (s + value * (V(1) - s) * slope);
  }
};

struct ReluSquared {
  template <class T, class V>
  static SLUICE_FORMULA V forward(V x) {
    const V positive = Relu::forward<T>(x);
    return positive * positive;
  }
  template <class T, class V>
  static SLUICE_FORMULA V backward(V d_out, V x, V& value) {
    const V positive = Relu::forward<T>(x);
    value = positive * positive;
    return d_out * (positive + positive);
  }
};

template <class V>
SLUICE_FORMULA V swiglu(V gate, V up) {
  return gate * sigmoid_of(gate) * up;
}
// The gradients replace gate and up; returns swiglu(gate, up).
template <class V>
SLUICE_FORMULA V swiglu_gradient(V d_out, V& gate, V& up) {
  const V s = sigmoid_of(gate), silu = gate * s, value = silu * up;
  gate = d_out * up * (s + silu * (V(1) - s));
  up = d_out * silu;
  return value;
}

// Calls body(F{}) with the activation's formula F.
template <class Body>
SLUICE_FORMULA void with_activation(Activation kind, Body body) {
  switch (kind) {
    case Activation::kRelu: body(Relu{}); break;
    case Activation::kGelu: body(Gelu{}); break;
    case Activation::kReluSquared: body(ReluSquared{}); break;
  }
}

}  // namespace sluice
