// Mixture of heads (MoH, arXiv 2410.11842): a row's heads have factors that come from logits of the row. Of H heads the
// first S are shared, K of the other E are active: those with the largest logits, of equal ones the first.
//
//   routed e   w_2 K u_e m_e / sum(u m)        u = exp(l - max l), m = 1 for active heads, else 0
//   shared s   w_1 S v_s / sum(v)              v likewise of logits of their own; w_1 where S is 1
//   (w_1, w_2) = 2 softmax of two more logits  1 and 1 where S is 0
//
// A row's logits: E of the routed heads, S of the shared ones where S > 1, the two where S > 0. Where all of a part are
// equal its factors are exactly 1. `mask`: the factors are 1 and m, there are E logits, and the gradient goes straight
// through m to p = u / sum(u).
//
// Backward, with f a head's factor without w, t = dL/d(factor) and w' = w_1 or w_2 as the head's part has it:
//   dL/dl = w' f (t - sum(t f) / count)        count = K or S: what the part's f sum to
//   dL/dw = sum(t f) over the part, and through the softmax above alike
//
// A row of n logits is spread out by the caller: `logits`, and `u`, exponentials of each part less its largest.
#pragma once

#include <cstdint>

#include "kernels/formulas/math.h"

namespace sluice {

inline constexpr int kMostRoutedHeads = 256;                     // H
inline constexpr int kMostRoutingLogits = kMostRoutedHeads + 2;  // of a row

struct HeadRouting {
  int32_t heads = 0, shared = 0, active = 0;  // H, S, K
  bool mask = false;

  SLUICE_FORMULA int routed() const { return heads - shared; }
  SLUICE_FORMULA int shared_logits() const { return !mask && shared > 1 ? shared : 0; }
  SLUICE_FORMULA int part_logits() const { return !mask && shared > 0 ? 2 : 0; }
  SLUICE_FORMULA int logits() const { return routed() + shared_logits() + part_logits(); }
  SLUICE_FORMULA int parts_at() const { return routed() + shared_logits(); }
};

// The largest of `count` logits, to be taken from each before its exponential.
template <class T>
SLUICE_FORMULA T largest_of(const T* logits, int count) {
  T most = logits[0];
  for (int i = 1; i < count; ++i) most = logits[i] > most ? logits[i] : most;
  return most;
}

template <class T>
SLUICE_FORMULA T sum_of_all(const T* x, int count) {
  T sum = 0;
  for (int i = 0; i < count; ++i) sum += x[i];
  return sum;
}

// Whether routed head e is one of the K with the largest logits.
template <class T>
SLUICE_FORMULA bool is_active(const T* logits, int e, const HeadRouting& r) {
  int before = 0;
  for (int j = 0; j < r.routed(); ++j) before += logits[j] > logits[e] || (logits[j] == logits[e] && j < e);
  return before < r.active;
}

// w_1 and w_2.
template <class T>
struct PartWeights {
  T shared = 1, routed = 1;
};

template <class T>
SLUICE_FORMULA PartWeights<T> part_weights(const T* u, const HeadRouting& r) {
  if (r.part_logits() == 0) return {};
  const T *two = u + r.parts_at(), sum = two[0] + two[1];
  return {T(2) * two[0] / sum, T(2) * two[1] / sum};
}

// factor [H], without w.
template <class T>
SLUICE_FORMULA void factors_within_parts(T* factor, const T* logits, const T* u, const HeadRouting& r) {
  const T shared_sum = r.shared_logits() > 0 ? sum_of_all(u + r.routed(), r.shared) : T(1);
  for (int s = 0; s < r.shared; ++s)
    factor[s] = r.shared_logits() > 0 ? T(r.shared) * u[r.routed() + s] / shared_sum : T(1);
  T* routed = factor + r.shared;
  T sum = 0;
  for (int e = 0; e < r.routed(); ++e) {
    routed[e] = is_active(logits, e, r) ? T(1) : T(0);
    if (routed[e] > T(0)) sum += u[e];
  }
  if (r.mask) return;
  for (int e = 0; e < r.routed(); ++e)
    if (routed[e] > T(0)) routed[e] = T(r.active) * u[e] / sum;
}

template <class T>
SLUICE_FORMULA void head_factors(T* factor, const T* logits, const T* u, const HeadRouting& r) {
  factors_within_parts(factor, logits, u, r);
  const PartWeights<T> w = part_weights(u, r);
  for (int h = 0; h < r.heads; ++h) factor[h] = (h < r.shared ? w.shared : w.routed) * factor[h];
}

// d_logits (+)= dL/dl of a softmax p = u / sum(u) from d_p [count].
template <class T>
SLUICE_FORMULA void through_softmax(T* d_logits, const T* u, int count, bool add, const T* d_p) {
  const T sum = sum_of_all(u, count);
  T mean = 0;
  for (int e = 0; e < count; ++e) mean += u[e] / sum * d_p[e];
  for (int e = 0; e < count; ++e) {
    const T slope = u[e] / sum * (d_p[e] - mean);
    d_logits[e] = add ? d_logits[e] + slope : slope;
  }
}

// d_logits [logits()] (overwritten) and factor [H] from t [H].
template <class T>
SLUICE_FORMULA void head_factors_backward(T* d_logits, T* factor, const T* t, const T* logits, const T* u,
                                          const HeadRouting& r) {
  factors_within_parts(factor, logits, u, r);
  if (r.mask) return through_softmax(d_logits, u, r.routed(), false, t + r.shared);
  const PartWeights<T> w = part_weights(u, r);
  T of_shared = 0, of_routed = 0;
  for (int s = 0; s < r.shared; ++s) of_shared += t[s] * factor[s];
  for (int h = r.shared; h < r.heads; ++h) of_routed += t[h] * factor[h];
  for (int s = 0; s < r.shared_logits(); ++s)
    d_logits[r.routed() + s] = w.shared * factor[s] * (t[s] - of_shared / T(r.shared));
  for (int e = 0; e < r.routed(); ++e)
    d_logits[e] = w.routed * factor[r.shared + e] * (t[r.shared + e] - of_routed / T(r.active));
  if (r.part_logits() > 0) {
    const T mean = (of_shared * w.shared + of_routed * w.routed) / T(2);
    d_logits[r.parts_at()] = w.shared * (of_shared - mean);
    d_logits[r.parts_at() + 1] = w.routed * (of_routed - mean);
  }
  for (int h = 0; h < r.heads; ++h) factor[h] = (h < r.shared ? w.shared : w.routed) * factor[h];
}

// ---- routing by the lengths of queries ------------------------------------------------------------------------------
//
//   l_e = n_e / sigma,   n_e = |q_e|,   sigma^2 = sum (n_e - mean n)^2 / (E - 1) + kLengthVariance
//
// over the E routed heads of a row. dL/dn_e = dl_e / sigma - (n_e - mean n) sum_j(dl_j n_j) / ((E - 1) sigma^3), and
// dn/dq = q / n, 0 for a query of zero.

inline constexpr double kLengthVariance = 1e-6;

// sigma^2, and the mean of the lengths.
template <class T>
SLUICE_FORMULA T length_variance(const T* length, int count, T& mean) {
  mean = sum_of_all(length, count) / T(count);
  T sum = 0;
  for (int e = 0; e < count; ++e) sum += (length[e] - mean) * (length[e] - mean);
  return sum / T(count - 1) + T(kLengthVariance);
}

// What q_e is multiplied with: dL/dn_e / n_e, for each head. d [count] are the logits' gradients.
template <class T>
SLUICE_FORMULA void length_slopes(T* slope, const T* d, const T* length, int count, T mean, T inverse) {
  T along = 0;
  for (int e = 0; e < count; ++e) along += d[e] * length[e];
  along *= inverse * inverse * inverse / T(count - 1);
  for (int e = 0; e < count; ++e) {
    const T d_length = d[e] * inverse - (length[e] - mean) * along;
    slope[e] = length[e] > T(0) ? d_length / length[e] : T(0);
  }
}

}  // namespace sluice
