// Attention whose weights are the keys' own (arXiv 2510.11602, "non-approximate"): position j has one score, whoever
// looks,
//
//   s_j = scale silu(q_j) . k_j,   O_i = sum_{j <= i} e^{s_j} v_j / sum_{j <= i} e^{s_j},
//
// a running average: with beta_i = e^{s_i} / sum_{j <= i} e^{s_j} in (0, 1],
//
//   O_i = O_{i-1} + beta_i (v_i - O_{i-1}).
//
// Backward, from the last row up, with d_i = dL/dO_i:   G_i = d_i + (1 - beta_{i+1}) G_{i+1},
//   c_i = d_i . O_i + (1 - beta_{i+1}) c_{i+1},   dL/dv_i = beta_i G_i,   dL/ds_i = beta_i (G_i . v_i - c_i).
// No factor is above 1.
#pragma once

#include "kernels/formulas/activation.h"

namespace sluice {

// The scores so far, relative to the largest.
template <class A>
struct RunningMass {
  A largest, sum;

  // beta of the score that comes now; `anew`: it is the first.
  SLUICE_FORMULA A add(A score, bool anew) {
    if (anew || score > largest) {
      sum = anew ? A(0) : sum * exp_of(largest - score);
      largest = score;
    }
    const A weight = exp_of(score - largest);
    sum += weight;
    return weight / sum;
  }
};

}  // namespace sluice
