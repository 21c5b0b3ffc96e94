// Shares of a row of weights (figure.h).
#include <cmath>
#include <limits>

#include "measure/figures/figure.h"

namespace sluice {

double WeightRows::unit(int64_t i) const {
  if (normalised_) return 1;
  double whole = std::fabs(on_bias(i));
  double on_tokens = 0;
  for (const double weight : row(i)) on_tokens += std::fabs(weight);
  whole = on_tokens + whole;
  return whole > 0 ? 1 / whole : whole == 0 ? 0 : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace sluice
