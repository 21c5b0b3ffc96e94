// What an activation x adds to a loss that grows with its fourth power, and the gradient, without their common factors
// (TWEO, arXiv 2511.23225): inverse is 1 / limit.
#pragma once

#include "kernels/formulas/math.h"

namespace sluice {

// (x / limit)^4
template <class V>
SLUICE_FORMULA V outlier_value(V x, V inverse) {
  const V r = x * inverse, square = r * r;
  return square * square;
}

// 4 x^3 / limit^4
template <class V>
SLUICE_FORMULA V outlier_slope(V x, V inverse) {
  const V r = x * inverse;
  return V(4) * inverse * (r * r * r);
}

}  // namespace sluice
