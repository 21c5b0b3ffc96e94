// What a score function is. Row i of the attention weights is a function of its scores s_ij = scale * q_i . k_j, j <= i:
//
//   p_ij = weight(s_ij, m_i) * inv_i       inv_i = 1 / l_i       l_i = mass0 + sum_j mass(s_ij, m_i)
//
// m_i is the row's reference: for exponentials a running maximum that keeps them in range, else a constant. Going from
// reference m to m', everything summed so far is multiplied by e^(m - m'). A function that is not linear in its
// unnormalised weights (clipped_softmax) sets kTwoPass: statistics first, then `probability` of every score.
//
// Backward, with dp_ij = dO_i . v_j and delta_i = sum_j p_ij dp_ij = dO_i . O_i (or, for kOwnDelta, the row sum of
// delta_term):   dL/ds_ij = d_score(s_ij, m_i, inv_i, p_ij, dp_ij, delta_i, constants).
//
// A new function is one file like softmax.h here and one line in registry.h; its template parameter V is a float, a
// double or a SIMD vector, so the CPU and GPU kernels run the same text. Masked scores never reach these formulas' results.
#pragma once

#include "kernels/attention_types.h"
#include "kernels/formulas/math.h"

namespace sluice {

// ScoreConstants in the kernel's arithmetic type.
template <class T>
struct ScoreValues {
  T bias, gamma, zeta, epsilon;
  bool bias_minus_log_length;
};

// The row state before the first key. `sink` is the head's learned sink logit (sink_logit only).
template <class V>
struct RowStart {
  V reference, mass;
};

// Traits most functions share.
struct ScoreDefaults {
  static constexpr bool kRunningMax = true;   // the reference follows the row's maximum
  static constexpr bool kTwoPass = false;
  static constexpr bool kNeedsDelta = true;   // d_score reads delta
  static constexpr bool kOwnDelta = false;    // delta is not dO . O: sum delta_term over the row
  static constexpr bool kSinkLogit = false;   // has a learned logit per head
  static constexpr bool kOnlyStart = false;   // is SoftmaxFamily but for `start`: may share its kernels
};

template <class V>
inline constexpr V kMinusInfinity = V(-__builtin_huge_val());

}  // namespace sluice
