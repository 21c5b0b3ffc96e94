#include "measure/figures/head_diversity.h"

#include <cmath>

#include "base/statistics.h"

namespace sluice {

// The mean is carried along (Welford), so that equal heads have a deviation of 0 and not of rounding.
void HeadDiversity::add(const WeightRows& weights) {
  heads_ += 1;
  for (int64_t i = 0; i < T_; ++i) {
    const std::span<const double> row = weights.row(i);
    const double unit = weights.unit(i);
    keys_[size_t(i)] = row.size();
    double *mean = mean_.data() + i * T_, *squares = squares_.data() + i * T_;
    for (size_t j = 0; j < row.size(); ++j) {
      const double share = std::fabs(row[j]) * unit, before = share - mean[j];
      mean[j] += before / heads_;
      squares[j] += before * (share - mean[j]);
    }
  }
}

double HeadDiversity::value() const {
  Mean deviation;
  for (int64_t i = 0; i < T_; ++i)
    for (size_t j = 0; j < keys_[size_t(i)]; ++j) deviation.add(std::sqrt(squares_[size_t(i * T_) + j] / heads_));
  return deviation.value();
}

}  // namespace sluice
