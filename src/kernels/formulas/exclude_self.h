// Exclusive self-attention (XSA, arXiv 2603.09078): what a head's result y has along the row's own value v is taken
// out,
//
//   out = y - a v,   a = (y . v) / |v|^2;      nothing is taken out along a value of zero.
//
// Backward, with d = dL/d(out) and b = (d . v) / |v|^2:   dL/dy = d - b v,   dL/dv = 2 a b v - b y - a d.
#pragma once

#include "kernels/formulas/math.h"

namespace sluice {

// x without its `share` of v.
template <class V>
SLUICE_FORMULA V without_value(V x, V v, V share) {
  return x - share * v;
}

// With a and b as above.
template <class V>
SLUICE_FORMULA V excluded_value_gradient(V y, V d, V v, V a, V b) {
  return V(2) * a * b * v - b * y - a * d;
}

}  // namespace sluice
