// Where grids lie, what they do to values, and the ends of a distribution, against definitions and full sorts.
#include "measure/quantization_grid.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/philox.h"
#include "kernels/test_buffer.h"

namespace sluice {
namespace {

std::vector<float> normal_values(size_t n, uint64_t stream = 1) {
  std::vector<float> out(n);
  for (size_t i = 0; i < n; ++i) {
    const Random4 words = philox(11, stream, i);
    out[i] = normal_from(words.word[0], words.word[1], 0);
  }
  return out;
}

double largest_of(const std::vector<float>& x) {
  double out = 0;
  for (const float value : x) out = std::max(out, std::fabs(double(value)));
  return out;
}

TEST(QuantizationGrid, SymmetricGridsHaveTheLargestValueAsTheirLastPoint) {
  const Grid grid = symmetric_grid(2.54, 8);
  EXPECT_DOUBLE_EQ(grid.scale, 0.02);
  EXPECT_EQ(grid.low, -128);
  EXPECT_EQ(grid.high, 127);
  EXPECT_DOUBLE_EQ(symmetric_grid(1, 2).scale, 1);
  EXPECT_DOUBLE_EQ(symmetric_grid(1, 16).scale, 1.0 / 32767);
}

TEST(QuantizationGrid, AsymmetricGridsHoldZeroAndBothEnds) {
  const Grid both = asymmetric_grid({-1, 4.1}, 8);
  EXPECT_DOUBLE_EQ(both.scale, 0.02);
  EXPECT_EQ(both.zero_point(), 50);
  EXPECT_EQ(both.high - both.low, 255);
  const Grid positive = asymmetric_grid({3, 5.1}, 8), negative = asymmetric_grid({-5.1, -3}, 8);
  EXPECT_EQ(positive.zero_point(), 0);
  EXPECT_DOUBLE_EQ(positive.ends().greatest, 5.1);
  EXPECT_EQ(negative.zero_point(), 255);
  EXPECT_DOUBLE_EQ(negative.ends().least, -5.1);
}

TEST(QuantizationGrid, NothingButZerosIsQuantizedWithoutError) {
  const std::vector<float> zeros(100);
  for (const Grid& grid : {symmetric_grid(0, 8), asymmetric_grid({0, 0}, 8)}) {
    EXPECT_TRUE(std::isfinite(grid.scale) && grid.scale > 0);
    EXPECT_EQ(grid_error(zeros, grid).relative(), 0);
    EXPECT_EQ(grid_error(zeros, grid).clipped, 0);
  }
}

TEST(QuantizationGrid, ErrorsAndClippedValuesAreCounted) {
  const Grid grid = {0.5, -2, 4};  // points -1 .. 2
  const std::vector<float> x = {0, 0.6f, -1.2f, -1.3f, 2.2f, 2.3f, 100};
  const double want[] = {0, 0.1, 0.2, 0.3, 0.2, 0.3, 98};
  double error = 0, signal = 0;
  for (size_t i = 0; i < x.size(); ++i) error += want[i] * want[i], signal += double(x[i]) * double(x[i]);
  const GridError got = grid_error(x, grid);
  EXPECT_NEAR(got.error, error, 1e-4);  // inputs are floats: 98 off by 4e-6, squared
  EXPECT_NEAR(got.signal, signal, 1e-3);
  EXPECT_EQ(got.clipped, 3);
  EXPECT_EQ(got.count, 7);
  EXPECT_NEAR(got.relative(), std::sqrt(error / signal), 1e-6);
}

// Uniform rounding noise: a step's square over 12, for values spread over many steps.
TEST(QuantizationGrid, TheErrorIsThatOfRounding) {
  const std::vector<float> x = normal_values(200000);
  for (int bits : {8, 10}) {
    const Grid grid = symmetric_grid(largest_of(x), bits);
    const GridError error = grid_error(x, grid);
    EXPECT_NEAR(error.error / double(x.size()), grid.scale * grid.scale / 12, 0.02 * grid.scale * grid.scale / 12);
    EXPECT_EQ(error.clipped, 0);
  }
}

TEST(QuantizationGrid, ThreadsDoNotChangeTheError) {
  const std::vector<float> x = normal_values(300001);
  expect_same_with_any_threads([&] { return grid_error(x, symmetric_grid(3, 8)).error; });
}

TEST(QuantizationGrid, TheLeastSquaredErrorIsFoundAndAnOutlierGivenUp) {
  std::vector<float> x = normal_values(20000);
  for (int bits : {2, 4, 8}) {
    for (const float outlier : {0.0f, 60.0f}) {
      x[77] = outlier;
      const double largest = largest_of(x), best = best_largest(x, largest, bits);
      const auto error = [&](double m) { return grid_error(x, symmetric_grid(m, bits)).error; };
      for (int k = 1; k <= 100; ++k) EXPECT_LE(error(best), error(largest * k / 100)) << bits << " bits, " << k;
      if (bits == 4 && outlier > 0) {
        EXPECT_LT(best, 0.5 * largest);
        EXPECT_LT(error(best), 0.5 * error(largest));
      }
    }
  }
}

TEST(QuantizationGrid, RunningRangesForgetSlowly) {
  RunningRange range(0.9);
  range.add({-1, 2});
  EXPECT_EQ(range.range(), (Range{-1, 2}));
  range.add({-11, 2});
  EXPECT_NEAR(range.range().least, -2, 1e-12);
  range.add({-2, 12});
  EXPECT_NEAR(range.range().least, -2, 1e-12);
  EXPECT_NEAR(range.range().greatest, 3, 1e-12);
}

// numpy's definition: place p / 100 * (n - 1) of the sorted values, interpolated.
double percentile_by_sorting(std::vector<float> x, double percent) {
  std::sort(x.begin(), x.end());
  const double place = percent / 100 * double(x.size() - 1);
  const size_t below = size_t(place);
  const double here = x[below], next = x[std::min(below + 1, x.size() - 1)];
  return here + (place - double(below)) * (next - here);
}

TEST(QuantizationGrid, PercentilesOfAStreamAreThoseOfAllValues) {
  for (const size_t n : {1u, 2u, 1000u, 50000u})
    for (const double percent : {99.0, 99.9, 99.999, 100.0})
      for (const size_t pieces : {1u, 7u}) {
        std::vector<float> x = normal_values(n, n);
        for (size_t i = 0; i < n; i += 3) x[i] = std::round(4 * x[i]) / 4;  // many that are equal
        PercentileRange range(percent, int64_t(n));
        for (size_t piece = 0; piece < pieces; ++piece) {
          const size_t first = n * piece / pieces, end = n * (piece + 1) / pieces;
          range.add(std::span(x).subspan(first, end - first));
        }
        // Two products and a sum in double.
        EXPECT_NEAR(range.range().greatest, percentile_by_sorting(x, percent), 1e-9) << n << " values, " << percent;
        EXPECT_NEAR(range.range().least, percentile_by_sorting(x, 100 - percent), 1e-9) << n << " values, " << percent;
      }
}

TEST(QuantizationGrid, PercentilesGiveUpOutliers) {
  std::vector<float> x = normal_values(100000);
  x[5] = 1000;
  PercentileRange range(99.99, int64_t(x.size()));
  range.add(x);
  EXPECT_LT(range.range().greatest, 6);
  EXPECT_GT(range.range().least, -6);
}

}  // namespace
}  // namespace sluice
