// Linear attention with decay (arXiv 2307.14995, 2405.17381): a head h remembers what was j rows ago with lam_h^j,
//
//   O_i = sum_{j <= i} lam_h^(i-j) (q_i . k_j) v_j,   lam_h = e^(-s_h),
//
// no weight being divided by another. Row by row it is a state S [D_qk, D_v]: S_i = lam S_{i-1} + k_i v_i^T, O_i = q_i
// S_i. In chunks of n rows, S being the state before the chunk and i, j counted from its first row:
//
//   O_i = sum_{j <= i} lam^(i-j) (q_i . k_j) v_j + lam^(i+1) q_i S
//   S  <- lam^n S + sum_j lam^(n-1-j) k_j v_j^T
//
// Each gradient is such a sum again, over the rows before or, walking backwards, over the rows after:
//
//   dq_i = sum_{j <= i} lam^(i-j) (dO_i . v_j) k_j
//   dk_j = sum_{i >= j} lam^(i-j) (v_j . dO_i) q_i     dv_j = sum_{i >= j} lam^(i-j) (k_j . q_i) dO_i
#pragma once

#include <cstdint>

#include "kernels/formulas/math.h"

namespace sluice {

// s_h of head h of H where the layer's factor is 1: 2^(-8 (h + 1) / H) for H a power of two; else those of the power
// below it, then every second of those of twice that power.
SLUICE_FORMULA double head_slope(int64_t h, int64_t H) {
  constexpr double kEightLn2 = 5.5451774444795624753;
  int64_t power = 1;
  while (2 * power <= H) power *= 2;
  const double exponent = h < power ? double(h + 1) / double(power) : double(2 * (h - power) + 1) / double(2 * power);
  return exp_of(-kEightLn2 * exponent);
}

// lam^rows, also where the slope is infinite.
SLUICE_FORMULA double decay_after(double slope, int64_t rows) {
  return rows == 0 ? 1.0 : exp_of(-slope * double(rows));
}

}  // namespace sluice
