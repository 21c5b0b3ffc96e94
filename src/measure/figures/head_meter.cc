// Shares of a row of weights.
#include "measure/figures/head_meter.h"

#include <cmath>
#include <limits>

namespace sluice {

double WeightRows::unit(int64_t i) const {
  if (normalised_) return 1;
  double whole = 0;
  for (const double weight : row(i)) whole += std::fabs(weight);
  whole += std::fabs(on_bias(i));
  return whole > 0 ? 1 / whole : whole == 0 ? 0 : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace sluice
