#include "base/statistics.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace sluice {

ElementStatistics element_statistics(std::span<const float> x) {
  ElementStatistics out;
  const double n = double(x.size());
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    sum += x[i];
    const double size = std::fabs(double(x[i]));
    if (size > out.infinity_norm) out.infinity_norm = size, out.largest = int64_t(i);
  }
  if (std::isnan(sum)) return {std::nan(""), std::nan(""), 0};  // a NaN, or infinities of both signs
  const double mean = sum / n;
  double squares = 0, fourths = 0;
  for (const float value : x) {
    const double square = (value - mean) * (value - mean);
    squares += square;
    fourths += square * square;
  }
  out.kurtosis = n * fourths / (squares * squares);
  return out;
}

double median_magnitude(std::span<const float> x) {
  if (std::any_of(x.begin(), x.end(), [](float value) { return std::isnan(value); })) return std::nan("");
  std::vector<float> sizes(x.size());
  std::transform(x.begin(), x.end(), sizes.begin(), [](float value) { return std::fabs(value); });
  const auto middle = sizes.begin() + ptrdiff_t(sizes.size() / 2);
  std::nth_element(sizes.begin(), middle, sizes.end());
  if (sizes.size() % 2 == 1) return *middle;
  return (double(*middle) + *std::max_element(sizes.begin(), middle)) / 2;
}

double norm(std::span<const float> x) {
  double squares = 0;
  for (const float value : x) squares += double(value) * value;
  return std::sqrt(squares);
}

}  // namespace sluice
