// Flow-Attention, causal (arXiv 2202.06258): linear attention whose sources compete for what flows out of them and
// whose sinks are given what flows in. With a_i = sigmoid(q_i), b_i = sigmoid(k_i), e = 1e-6 added to every feature,
// n_i the rows up to i and sums over them,
//
//   I_i = n_i / ((a_i + e) . (K_i + e))     K_i = sum b_j          what flows into i
//   O_i = n_i / ((b_i + e) . (Q_i + e))     Q_i = sum a_j          what flows out of i
//   c_i = (a_i + e) . (M_i + e) / n_i       M_i = sum b_j O_j      into i, where what flows out of each source is 1
//   w_i = (b_i + e) . (L_i + e) / n_i       L_i = sum a_j I_j      out of i, where what flows into each sink is 1
//   x_i = e^clamp(w_i, -5, 5)               E_i = sum x_j          n_i x_i / E_i: the competition of the sources
//
//   out_i = sigmoid(c_i) sum_{j <= i} (a_i I_i / n_i . b_j) (n_j x_j / E_j) v_j
//
// Backward: what a row's own sums ask for comes from the rows before it (K, Q, M, L as they were), what others ask for
// of it from the rows after it, in sums G of the same four names that are walked from the last row up.
#pragma once

#include "kernels/formulas/math.h"

namespace sluice {

inline constexpr double kFlowEpsilon = 1e-6, kFlowBound = 5;

template <class A>
SLUICE_FORMULA A flow_competitor(A w) {
  const A bound = A(kFlowBound), low = select(w < -bound, -bound, w);
  return exp_of(select(low > bound, bound, low));
}

// dL/dw from dL/dx: nothing where w was clamped.
template <class A>
SLUICE_FORMULA A flow_competitor_gradient(A w, A x, A d_x) {
  return w < -A(kFlowBound) || w > A(kFlowBound) ? A(0) : x * d_x;
}

}  // namespace sluice
