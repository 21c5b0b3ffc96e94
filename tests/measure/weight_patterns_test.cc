// Concentration, local focus and diversity of heads, on weights that are written down and on random ones.
#include "measure/figures/weight_patterns.h"

#include <gtest/gtest.h>

#include <cmath>

#include "measure/figures/head_diversity.h"
#include "measure/written_weights.h"

namespace sluice {
namespace {

double value(const std::string& key, const std::vector<WrittenWeights>& sequences) {
  for (const HeadFigure& figure : weight_patterns())
    if (figure.key == key) return measured(figure, sequences);
  ADD_FAILURE() << key;
  return 0;
}

double focus(int distance, const std::vector<WrittenWeights>& sequences) {
  return value("local_focus_" + std::to_string(distance), sequences);
}

// Of heads over the same sequence.
double diversity(const std::vector<WrittenWeights>& heads, int64_t T) {
  HeadDiversity out(T);
  for (const WrittenWeights& head : heads) {
    const HeadWeights weights{head.rows, head.key_bias};
    out.add(WeightRows(weights, head.normalised, T));
  }
  return out.value();
}

const WrittenWeights kIdentity = {.rows = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}},
                     kFirst = {.rows = {1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0}},
                     kBefore = {.rows = {1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}},
                     kUniform = {.rows = {1, 0, 0, 0, .5, .5, 0, 0, 1. / 3, 1. / 3, 1. / 3, 0, .25, .25, .25, .25}};

TEST(WeightPatterns, ConcentrationIsBetweenUniformAndOneKeyARow) {
  EXPECT_EQ(value("concentration", {kIdentity}), 2);
  EXPECT_EQ(value("concentration", {kFirst}), 2);
  EXPECT_NEAR(value("concentration", {kUniform}), std::sqrt(1 + 1. / 2 + 1. / 3 + 1. / 4), 1e-15);
  EXPECT_NEAR(value("concentration", {kIdentity, kUniform}), (2 + std::sqrt(25. / 12)) / 2, 1e-15);
  EXPECT_EQ(value("concentration", {{.rows = std::vector<double>(16)}}), 0);
}

TEST(WeightPatterns, LocalFocusIsTheMeanOfADiagonal) {
  for (const int distance : {0, 1, 2, 3}) EXPECT_EQ(focus(distance, {kIdentity}), distance == 0 ? 1 : 0);
  EXPECT_EQ(focus(1, {kBefore}), 1);
  EXPECT_EQ(focus(0, {kBefore}), 0.25);
  EXPECT_EQ(focus(3, {kFirst}), 1);
  EXPECT_EQ(focus(2, {kFirst}), 0.5);
  EXPECT_NEAR(focus(0, {kUniform}), (1 + 1. / 2 + 1. / 3 + 1. / 4) / 4, 1e-15);
  EXPECT_NEAR(focus(1, {kUniform, kBefore}), (1. / 2 + 1. / 3 + 1. / 4 + 3) / 6, 1e-15);
  EXPECT_TRUE(std::isnan(focus(3, {{.rows = {1, 0, .5, .5}}}))) << "no row is that long";
}

TEST(WeightPatterns, DiversityIsTheDeviationOverHeads) {
  EXPECT_EQ(diversity({kUniform, kUniform, kUniform}, 4), 0);
  EXPECT_EQ(diversity({kUniform}, 4), 0);
  // They differ at six of ten pairs, 0 against 1.
  EXPECT_NEAR(diversity({kIdentity, kFirst}, 4), 6 * 0.5 / 10, 1e-15);
  // 1 0 0: a deviation of sqrt(2)/3, as of 0 1 1.
  EXPECT_NEAR(diversity({kIdentity, kFirst, kFirst}, 4), 6 * std::sqrt(2.) / 3 / 10, 1e-15);
}

TEST(WeightPatterns, TakeSharesWhereWeightsAreNone) {
  WrittenWeights scaled = kBefore;
  for (double& weight : scaled.rows) weight *= -3;
  scaled.normalised = false;
  EXPECT_NEAR(value("concentration", {scaled}), 2, 1e-15);
  EXPECT_NEAR(focus(1, {scaled}), 1, 1e-15);
  EXPECT_NEAR(diversity({scaled, kBefore}, 4), 0, 1e-15);
  scaled.key_bias = {3, 3, 3, 3};
  EXPECT_NEAR(focus(1, {scaled}), 0.5, 1e-15);
}

TEST(WeightPatterns, AreNoNumberWhereAWeightIsNone) {
  WrittenWeights broken = kUniform;
  broken.rows[13] = NAN;  // at distance 2
  EXPECT_TRUE(std::isnan(value("concentration", {kUniform, broken})));
  EXPECT_TRUE(std::isnan(focus(2, {broken})));
  EXPECT_FALSE(std::isnan(focus(1, {broken}))) << "which are what they are";
  EXPECT_TRUE(std::isnan(diversity({kUniform, broken}, 4)));
}

TEST(WeightPatterns, AreThoseOfPlainLoops) {
  constexpr int64_t kT = 11;
  std::vector<WrittenWeights> all;
  for (uint64_t seed = 0; seed < 5; ++seed) all.push_back(random_weights(kT, seed, 4));
  const auto at = [&](const WrittenWeights& one, int64_t i, int64_t j) { return one.rows[size_t(i * kT + j)]; };
  double norm = 0, at_two = 0, deviation = 0;
  for (const WrittenWeights& one : all) {
    double squares = 0;
    for (const double weight : one.rows) squares += weight * weight;
    norm += std::sqrt(squares) / 5;
    for (int64_t i = 2; i < kT; ++i) at_two += at(one, i, i - 2) / double(5 * (kT - 2));
  }
  for (int64_t i = 0; i < kT; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      double mean = 0, square = 0;
      for (const WrittenWeights& one : all) mean += at(one, i, j) / 5;
      for (const WrittenWeights& one : all) square += (at(one, i, j) - mean) * (at(one, i, j) - mean) / 5;
      deviation += std::sqrt(square) / double(kT * (kT + 1) / 2);
    }
  EXPECT_NEAR(value("concentration", all), norm, 1e-13);
  EXPECT_NEAR(focus(2, all), at_two, 1e-13);
  EXPECT_NEAR(diversity(all, kT), deviation, 1e-13);
}

}  // namespace
}  // namespace sluice
