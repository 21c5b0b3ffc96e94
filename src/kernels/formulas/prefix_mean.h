// What a sum over the rows that a row sees is divided by: their number, or one number for all rows.
#pragma once

#include <cstdint>

#include "kernels/formulas/math.h"

namespace sluice {

// One over it, for the row at `place` of its sequence, which sees those from `start` on; `divisor` 0: their number.
template <class T>
SLUICE_FORMULA T prefix_share(int64_t place, int64_t start, double divisor) {
  return T(1) / (divisor > 0 ? T(divisor) : T(place - start + 1));
}

}  // namespace sluice
