// The sampler: what is cut off, how often the rest is drawn, and that a draw depends on its place alone.
#include "model/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "base/error.h"

namespace sluice {
namespace {

// Probabilities 0.1, 0.4, 0.2, 0.3 at temperature 1.
const std::vector<float> kLogits = {std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};

std::vector<double> frequencies(const SamplingOptions& options, int draws) {
  Sampler sampler(options);
  std::vector<double> out(kLogits.size());
  for (int i = 0; i < draws; ++i) ++out[size_t(sampler.choose(kLogits, 3, uint64_t(i)))];
  for (double& count : out) count /= draws;
  return out;
}

// Five standard deviations of a frequency.
void expect_frequencies(const SamplingOptions& options, const std::vector<double>& expected) {
  constexpr int kDraws = 20000;
  const std::vector<double> got = frequencies(options, kDraws);
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(got[i], expected[i], 5 * std::sqrt(expected[i] * (1 - expected[i]) / kDraws)) << "token " << i;
}

TEST(Sampler, DrawsByProbability) { expect_frequencies({}, {0.1, 0.4, 0.2, 0.3}); }

TEST(Sampler, TemperatureSharpens) {
  expect_frequencies({.temperature = 0.5}, {0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3});
  expect_frequencies({.temperature = 1e-6}, {0, 1, 0, 0});
}

TEST(Sampler, ZeroTemperatureIsTheMostLikelyAndTheFirstOfEquals) {
  Sampler greedy({.temperature = 0});
  EXPECT_EQ(greedy.choose(kLogits, 0, 0), 1);
  EXPECT_EQ(greedy.choose(std::vector<float>{1, 5, 5, 2}, 7, 9), 1);
}

TEST(Sampler, TopKAndTopPCut) {
  expect_frequencies({.top_k = 2}, {0, 0.4 / 0.7, 0, 0.3 / 0.7});
  expect_frequencies({.top_k = 100}, {0.1, 0.4, 0.2, 0.3});
  expect_frequencies({.top_p = 0.65}, {0, 0.4 / 0.7, 0, 0.3 / 0.7});              // 0.4 are not enough, 0.7 are
  expect_frequencies({.top_p = 1e-9}, {0, 1, 0, 0});                              // never fewer than one
  expect_frequencies({.top_k = 3, .top_p = 0.75}, {0, 0.4 / 0.7, 0, 0.3 / 0.7});  // of the three's 0.9
}

TEST(Sampler, ADrawDependsOnSeedSequenceAndPosition) {
  const std::vector<float> even(1000);
  const auto draw = [&](uint64_t seed, uint64_t sequence, uint64_t position) {
    return Sampler({.seed = seed}).choose(even, sequence, position);
  };
  EXPECT_EQ(draw(1, 2, 3), draw(1, 2, 3));
  EXPECT_GE((std::set<int32_t>{draw(1, 2, 3), draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4)}.size()), 3u);
}

TEST(Sampler, SpoiltLogitsAreAnError) {
  const float infinity = std::numeric_limits<float>::infinity();
  Sampler sampler({});
  EXPECT_THROW(sampler.choose(std::vector<float>{0, std::nanf(""), 1}, 0, 0), RunError);
  EXPECT_THROW(sampler.choose(std::vector<float>{0, infinity}, 0, 0), RunError);
  EXPECT_THROW(sampler.choose(std::vector<float>{-infinity, -infinity}, 0, 0), RunError);
  EXPECT_EQ(sampler.choose(std::vector<float>{-infinity, 0}, 0, 0), 1);
}

}  // namespace
}  // namespace sluice
