#include "measure/quantization_grid.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/error.h"
#include "kernels/formulas/quantize.h"

namespace sluice {
namespace {

constexpr double kLeastRange = 1e-30;  // below it all is 0: the inverse of a smaller step would not be a float
constexpr int kCandidates = 100;
constexpr int64_t kChunk = 1 << 16;  // elements whose sums a thread adds up

GridError chunk_error(const float* x, int64_t n, const QuantizationGrid<float>& grid) {
  double error = 0, signal = 0;
  int64_t clipped = 0;
  const float beyond_low = grid.low - 0.5f, beyond_high = grid.high + 0.5f;
#pragma omp simd reduction(+ : error, signal, clipped)
  for (int64_t i = 0; i < n; ++i) {
    const double difference = double(fake_quantized(x[i], grid)) - double(x[i]);
    const float steps = x[i] * grid.inverse;
    error += difference * difference;
    signal += double(x[i]) * double(x[i]);
    clipped += (steps < beyond_low) | (steps > beyond_high);
  }
  return {error, signal, clipped, n};
}

}  // namespace

Grid symmetric_grid(double largest, int bits) {
  const double half = std::ldexp(1.0, bits - 1);
  return {largest > kLeastRange ? largest / (half - 1) : 1, -half, half - 1};
}

Grid asymmetric_grid(const Range& range, int bits) {
  const double least = std::min(range.least, 0.0), greatest = std::max(range.greatest, 0.0);
  const double points = std::ldexp(1.0, bits) - 1;
  const double scale = greatest - least > kLeastRange ? (greatest - least) / points : 1;
  const double zero = std::clamp(std::nearbyint(-least / scale), 0.0, points);
  return {scale, -zero, points - zero};
}

void GridError::add(const GridError& other) {
  error += other.error;
  signal += other.signal;
  clipped += other.clipped;
  count += other.count;
}

double GridError::relative() const { return signal > 0 ? std::sqrt(error / signal) : 0; }

GridError grid_error(std::span<const float> x, const Grid& grid) {
  const auto in_floats = quantization_grid(float(grid.scale), float(grid.low), float(grid.high));
  const int64_t n = int64_t(x.size()), chunks = (n + kChunk - 1) / kChunk;
  std::vector<GridError> parts(static_cast<size_t>(chunks));
#pragma omp parallel for schedule(static) if (chunks > 1)
  for (int64_t chunk = 0; chunk < chunks; ++chunk)
    parts[size_t(chunk)] = chunk_error(x.data() + chunk * kChunk, std::min(kChunk, n - chunk * kChunk), in_floats);
  GridError total;
  for (const GridError& part : parts) total.add(part);
  return total;
}

double best_largest(std::span<const float> x, double largest, int bits) {
  double best = largest, least_error = std::numeric_limits<double>::infinity();
  for (int k = kCandidates; k >= 1; --k) {
    const double candidate = largest * k / kCandidates;
    const double error = grid_error(x, symmetric_grid(candidate, bits)).error;
    if (error >= least_error) continue;
    least_error = error;
    best = candidate;
  }
  return best;
}

void RunningRange::add(const Range& batch) {
  const double keep = any_ ? momentum_ : 0;
  range_ = {keep * range_.least + (1 - keep) * batch.least, keep * range_.greatest + (1 - keep) * batch.greatest};
  any_ = true;
}

// In increasing order, place percent / 100 * (count - 1), which lies between two values.
PercentileRange::PercentileRange(double percent, int64_t count) : count_(count) {
  check(count > 0 && percent >= 50 && percent <= 100, "percentile: 50 to 100, of some values");
  const double place = percent / 100 * double(count - 1), below = std::floor(place);
  kept_ = size_t(count - int64_t(below));
  fraction_ = place - below;
  const float nothing = -std::numeric_limits<float>::infinity();
  high_ = {1, {}, nothing};
  low_ = {-1, {}, nothing};
}

void PercentileRange::add(std::span<const float> values) {
  for (Tail* tail : {&high_, &low_}) {
    float least = tail->least;
    for (const float value : values) {
      if (!(tail->sign * value > least)) continue;
      tail->values.push_back(tail->sign * value);
      if (tail->values.size() < 2 * kept_ + 1024) continue;
      trim(*tail);
      least = tail->least;
    }
    trim(*tail);
  }
  seen_ += int64_t(values.size());
}

// Leaves the kept_ greatest. Values equal to the least of them are as good as it: they need not enter.
void PercentileRange::trim(Tail& tail) const {
  if (tail.values.size() < kept_) return;
  const auto last = tail.values.begin() + std::ptrdiff_t(kept_) - 1;
  std::nth_element(tail.values.begin(), last, tail.values.end(), std::greater<>());
  tail.values.resize(kept_);
  tail.least = tail.values.back();
}

// Counted from the least of those kept.
double PercentileRange::Tail::interpolated(size_t kept, double fraction) const {
  std::vector<float> ends = values;
  std::sort(ends.begin(), ends.end());
  check_eq(ends.size(), kept, "percentile: values kept");
  const double here = ends[0], next = ends[kept > 1 ? 1 : 0];
  return double(sign) * (here + fraction * (next - here));
}

Range PercentileRange::range() const {
  check_eq(seen_, count_, "percentile: values added");
  return {low_.interpolated(kept_, fraction_), high_.interpolated(kept_, fraction_)};
}

}  // namespace sluice
