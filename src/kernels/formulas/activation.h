// Activation functions of the MLP and their gradients, for one value or one SIMD vector V of scalars T.
//
// relu(x) = max(x, 0); a NaN passes through, and the gradient at 0 is 0.
// gelu(x) = x/2 (1 + tanh u) with u = sqrt(2/pi) (x + 0.044715 x^3), the tanh form of GPT-2. Because
// (1 + tanh u) / 2 = sigmoid(2u), gelu(x) = x s with s = sigmoid(2u), and gelu'(x) = s + 2 x s (1 - s) u'.
// relu_squared(x) = max(x, 0)^2 (arXiv 2109.08668).
// gelu_erf(x) = x P(x) with P the standard normal distribution's integral, (1 + erf(x / sqrt 2)) / 2 (arXiv
// 1606.08415); gelu_erf'(x) = P(x) + x p(x) with its density p. silu(x) = x s with s = sigmoid(x), and silu'(x) = s +
// x s (1 - s). SwiGLU (arXiv 2002.05202) has two arguments: silu(gate) up.
#pragma once

#include "kernels/formulas/math.h"
#include "kernels/types/op_types.h"

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

// c0 + y (c1 + y (...))
template <class T, class V, class... More>
SLUICE_FORMULA V polynomial(V y, double first, More... more) {
  if constexpr (sizeof...(more) == 0) return V(T(first));
  else return V(T(first)) + y * polynomial<T>(y, more...);
}

struct GeluErf {
  static constexpr double kDensityAtZero = 0.39894228040143267794;  // 1 / sqrt(2 pi)

  // P(-z) e^(z^2/2) for z >= 0: t f(2t - 1) with t = 4 / (4 + z), which runs from 1 down to 0. f is smooth; its
  // Chebyshev series is cut where what is left is below 1e-8 for float and 1e-17 for double, and written in powers.
  template <class T, class V>
  static SLUICE_FORMULA V scaled_tail(V z) {
    const V t = V(4) / (V(4) + z), y = t + t - V(1);
    if constexpr (sizeof(T) == 4) {
      return t * polynomial<T>(y, 0.188821282, 0.151974101, 0.0967843907, 0.0466316777, 0.015098824, 0.00187805785,
                               -0.000869041974, -0.000390946725, 3.23314203e-5, 3.93301424e-5);
    } else {
      return t * polynomial<T>(y, 0.188821282603937873, 0.1519741604929730749, 0.09678435018555372934,
                               0.04663046448990915278, 0.01509914372272946966, 0.001885047241846585455,
                               -0.0008699230917620260778, -0.0004077046168525702796, 0.00003333607735329936623,
                               0.0000577737543413464629, -4.770615899372217766e-7, -8.786277978479954542e-6,
                               1.791646990255330002e-7, 1.480402768968798639e-6, -1.57459203497365467e-7,
                               -2.561962885785060076e-7, 6.811577561731073268e-8, 3.994350534320042643e-8,
                               -2.171665371541457349e-8, -4.461242592609972521e-9, 5.356925774590640373e-9,
                               1.4684495981085664e-10, -9.326709945615889919e-10, 2.999370678800479313e-11,
                               8.508446690734617923e-11);
    }
  }
  // P(x); `decay` is e^(-x^2/2).
  template <class T, class V>
  static SLUICE_FORMULA V integral(V x, V decay) {
    const V tail = decay * scaled_tail<T>(abs_of(x));
    return select(x < V(0), tail, V(1) - tail);
  }
  template <class T, class V>
  static SLUICE_FORMULA V forward(V x) {
    return x * integral<T>(x, exp_of(V(T(-0.5)) * x * x));
  }
  template <class T, class V>
  static SLUICE_FORMULA V backward(V d_out, V x, V& value) {
    const V decay = exp_of(V(T(-0.5)) * x * x), p = integral<T>(x, decay);
    value = x * p;
    return d_out * (p + x * (V(T(kDensityAtZero)) * decay));
  }
};

struct Silu {
  template <class T, class V>
  static SLUICE_FORMULA V forward(V x) {
    return x * sigmoid_of(x);
  }
  template <class T, class V>
  static SLUICE_FORMULA V backward(V d_out, V x, V& value) {
    const V s = sigmoid_of(x);
    value = x * s;
    return d_out * (s + value * (V(1) - s));
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
    case Activation::kGeluErf: body(GeluErf{}); break;
    case Activation::kSilu: body(Silu{}); break;
  }
}

}  // namespace sluice
