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

std::vector<double> WeightRows::mean_shares() const {
  std::vector<double> shares(static_cast<size_t>(T_));
  for (int64_t i = 0; i < T_; ++i) {
    const double unit = this->unit(i);
    const std::span<const double> row = this->row(i);
    for (size_t k = 0; k < row.size(); ++k) shares[k] += std::fabs(row[k]) * unit;
  }
  for (int64_t k = 0; k < T_; ++k) shares[size_t(k)] /= double(queries_of(k));
  return shares;
}

}  // namespace sluice
