// Statistics of elements against numbers worked out by hand.
#include "base/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace sluice {
namespace {

TEST(Statistics, OfAFewNumbers) {
  const ElementStatistics odd = element_statistics(std::vector<float>{-1, 1, 2, 4, -3});
  EXPECT_EQ(odd.infinity_norm, 4);
  EXPECT_EQ(odd.largest, 3);
  const ElementStatistics even = element_statistics(std::vector<float>{1, -5, 2, 4});
  EXPECT_EQ(even.infinity_norm, 5);
  EXPECT_EQ(even.largest, 1);
}

TEST(Statistics, MedianOfMagnitudes) {
  EXPECT_EQ(median_magnitude(std::vector<float>{-1, 1, 2, 4, -3}), 2);  // of 1 1 2 3 4
  EXPECT_EQ(median_magnitude(std::vector<float>{1, -5, 2, 4}), 3);      // of 1 2 4 5
  EXPECT_EQ(median_magnitude(std::vector<float>{0, 7, 0}), 0);
}

TEST(Statistics, KurtosisOfKnownDistributions) {
  EXPECT_DOUBLE_EQ(element_statistics(std::vector<float>{-1, 1, -1, 1}).kurtosis, 1);  // two points: the least there is
  // One of n at 1, the others at 0: with p = 1/n, E[(x - p)^4] / E[(x - p)^2]^2 = (1 - 3 p (1 - p)) / (p (1 - p)).
  std::vector<float> spike(100);
  spike[7] = 1;
  const double variance = 0.01 * 0.99;
  EXPECT_NEAR(element_statistics(spike).kurtosis, (1 - 3 * variance) / variance, 1e-9);
}

TEST(Statistics, ANaNIsNotHidden) {
  const std::vector<float> hidden = {1, std::numeric_limits<float>::quiet_NaN(), 2};
  const ElementStatistics found = element_statistics(hidden);
  EXPECT_TRUE(std::isnan(found.infinity_norm) && std::isnan(found.kurtosis) && std::isnan(median_magnitude(hidden)));
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(element_statistics(std::vector<float>{1, infinity, 2}).infinity_norm, infinity);
}

}  // namespace
}  // namespace sluice
