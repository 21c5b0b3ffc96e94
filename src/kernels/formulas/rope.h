// The rotation of rotary position embedding (arXiv 2104.09864) for one pair of features, or one SIMD vector V of pairs.
#pragma once

#include "kernels/formulas/math.h"

namespace sluice {

template <class V>
SLUICE_FORMULA void rotate(V& a, V& b, V cosine, V sine) {
  const V turned = a * cosine - b * sine;
  b = b * cosine + a * sine;
  a = turned;
}

}  // namespace sluice
