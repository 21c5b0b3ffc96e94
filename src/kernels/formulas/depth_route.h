// A mix over depth of sources V_m [C] (attention residuals, arXiv 2603.15031), with k = query x gain:
//
//   p_m = k . V_m,   r_m = 1 / sqrt(mean of V_m^2 + epsilon),   l_m = r_m p_m,   alpha = softmax(l)
//   out = sum_m (base + alpha_m) V_m
//
// and backward, with d the gradient at out:
//
//   a_m  = alpha_m (d . V_m - sum_j alpha_j d . V_j)                                      at the logit l_m
//   d_m  = (base + alpha_m) d + a_m r_m k - (a_m l_m r_m^2 / C) V_m                       at the source
//   d_query = gain x g,  d_gain = query x g,   g = sum over tokens and m of a_m r_m V_m
#pragma once

#include "kernels/formulas/math.h"

namespace sluice {

// What a source's gradient and its part of g are made with.
template <class T>
struct DepthFactors {
  T of_out;     // base + alpha
  T of_key;     // a r, of k, and of V in g
  T of_source;  // a l r^2 / C
};

template <class T>
SLUICE_FORMULA DepthFactors<T> depth_factors(T base, T alpha, T logit_slope, T logit, T rms, T features) {
  return {base + alpha, logit_slope * rms, logit_slope * logit * rms * rms / features};
}

template <class V>
SLUICE_FORMULA V depth_gradient(V d_out, V key, V source, const DepthFactors<V>& by) {
  return by.of_out * d_out + by.of_key * key - by.of_source * source;
}

}  // namespace sluice
