// The optimizers' update of one parameter, for one value or one SIMD vector V; the same arithmetic as PyTorch's.
//
// AdamW (Loshchilov & Hutter 2019), g the scaled gradient, t the step:
//   p -= lr wd p;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
//   p -= lr / (1-b1^t) * m / (sqrt(v) / sqrt(1-b2^t) + eps)
// SGD with momentum: g += wd p;  m = mu m + g;  p -= lr m
// Muon (Jordan 2024): m = b m + (1-b) g, and its direction is made of u = b m + (1-b) g, Nesterov's momentum.
#pragma once

#include "kernels/formulas/math.h"
#include "kernels/types/op_types.h"

namespace sluice {

// What every element shares, worked out once in double and rounded to the parameters' type T.
template <class T>
struct AdamWFactors {
  T grad_scale, beta1, grad_weight, beta2, square_weight, decay, step_size, root_scale, epsilon;
};

template <class T>
SLUICE_FORMULA AdamWFactors<T> adamw_factors(const AdamWStep& step, double weight_decay) {
  const double correction1 = 1 - pow(step.beta1, double(step.step));
  const double correction2 = 1 - pow(step.beta2, double(step.step));
  return {T(step.grad_scale),       T(step.beta1),
          T(1 - step.beta1),        T(step.beta2),
          T(1 - step.beta2),        T(1 - step.lr * weight_decay),
          T(step.lr / correction1), T(1 / sqrt(correction2)),
          T(step.epsilon)};
}

template <class V, class T>
SLUICE_FORMULA void adamw(V& p, V grad, V& m, V& v, const AdamWFactors<T>& f) {
  const V g = grad * V(f.grad_scale);
  m = V(f.beta1) * m + V(f.grad_weight) * g;
  v = V(f.beta2) * v + V(f.square_weight) * (g * g);
  p = p * V(f.decay) - V(f.step_size) * (m / (sqrt_of(v) * V(f.root_scale) + V(f.epsilon)));
}

template <class T>
struct SgdFactors {
  T grad_scale, weight_decay, momentum, lr;
};

template <class T>
SLUICE_FORMULA SgdFactors<T> sgd_factors(const SgdStep& step, double weight_decay) {
  return {T(step.grad_scale), T(weight_decay), T(step.momentum), T(step.lr)};
}

template <class V, class T>
SLUICE_FORMULA void sgd(V& p, V grad, V& m, const SgdFactors<T>& f) {
  const V g = grad * V(f.grad_scale) + V(f.weight_decay) * p;
  m = V(f.momentum) * m + g;
  p = p - V(f.lr) * m;
}

template <class T>
struct MuonFactors {
  T beta, grad_weight;
};

template <class T>
SLUICE_FORMULA MuonFactors<T> muon_factors(double beta, double grad_scale) {
  return {T(beta), T((1 - beta) * grad_scale)};
}

// 0 for a gradient of zeros, whose direction is zero.
SLUICE_FORMULA double inverse_norm(double squares) { return squares > 0 ? 1 / sqrt_of(squares) : squares; }

template <class V, class T>
SLUICE_FORMULA V muon_momentum(V m, V grad, const MuonFactors<T>& f) {
  return V(f.beta) * m + V(f.grad_weight) * grad;
}

}  // namespace sluice
