// Sinks at later positions, on weights that are written down and on random ones.
#include "measure/figures/later_sinks.h"

#include <gtest/gtest.h>

#include <cmath>

#include "measure/written_weights.h"

namespace sluice {
namespace {

const HeadFigure& figure(const std::string& key) {
  static const std::vector<HeadFigure> all = later_sinks();
  return key == all[0].key ? all[0] : all[1];
}

double later(const std::vector<WrittenWeights>& sequences) { return measured(figure("later_sink_share"), sequences); }
double count(const std::vector<WrittenWeights>& sequences) { return measured(figure("sinks_per_sequence"), sequences); }

// Of four positions the first three are candidates.
const WrittenWeights kAtFirst = {.rows = {1, 0, 0, 0, 1, 0, 0, 0, .9, .1, 0, 0, .8, .1, .1, 0}},  // 0.925, 0.067, 0.05
    kAtSecond = {.rows = {1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0}},                       // 0.25, 1, 0
    kAtAll = {.rows = {1, 0, 0, 0, .5, .5, 0, 0, .4, .3, .3, 0, .2, .2, .2, .4}},     // 0.525, 1/3, 0.25, 0.4
    kOnlyLast = {.rows = {1, 0, 0, 0, .95, .05, 0, 0, .9, .05, .05, 0, 0, 0, 0, 1}};  // .. 0.033, 0.025, 1

TEST(LaterSinks, AreSequencesWithASinkBehindTheFirstPosition) {
  EXPECT_EQ(later({kAtFirst}), 0);
  EXPECT_EQ(later({kAtSecond}), 1);
  EXPECT_EQ(later({kOnlyLast}), 0) << "the last row looks at itself";
  EXPECT_EQ(later({kAtFirst, kAtSecond, kAtAll, kOnlyLast}), 0.5);
}

TEST(LaterSinks, AreCountedWithTheFirst) {
  EXPECT_EQ(count({kAtFirst}), 1);
  EXPECT_EQ(count({kAtSecond}), 2);
  EXPECT_EQ(count({kAtAll}), 3);
  EXPECT_EQ(count({kAtFirst, kAtSecond, kAtAll, kOnlyLast}), 7.0 / 4);
  EXPECT_EQ(count({{.rows = std::vector<double>(16)}}), 0) << "rows of zeros";
}

// Of weights that are no shares: |a| over the row's sum, the bias key's too.
TEST(LaterSinks, TakeSharesWhereWeightsAreNone) {
  const WrittenWeights small = {.rows = {.1, 0, 0, 0, .001, -.004, 0, 0, .001, .004, 0, 0, .001, -.004, 0, 0},
                                .normalised = false};
  EXPECT_EQ(count({small}), 2);  // 0.4, 0.8, 0
  WrittenWeights absorbed = small;
  absorbed.key_bias = {0, 1, 1, 1};
  EXPECT_EQ(count({absorbed}), 1);
  EXPECT_EQ(later({absorbed}), 0);
}

TEST(LaterSinks, AreNoNumberWhereAWeightIsNone) {
  WrittenWeights broken = kAtAll;
  broken.rows[14] = NAN;
  EXPECT_TRUE(std::isnan(later({kAtFirst, broken})));
  EXPECT_TRUE(std::isnan(count({broken, kAtFirst})));
}

TEST(LaterSinks, AreThoseOfAPlainLoop) {
  constexpr int64_t kT = 9;
  const std::vector<WrittenWeights> all = {random_weights(kT, 1, 3), random_weights(kT, 2, 8),
                                           random_weights(kT, 3, 20)};
  double some = 0, number = 0;
  for (const WrittenWeights& one : all) {
    int64_t found = 0, behind = 0;
    for (int64_t k = 0; k <= kT / 2; ++k) {
      double sum = 0;
      for (int64_t i = k; i < kT; ++i) sum += one.rows[size_t(i * kT + k)];
      const bool is_sink = sum / double(kT - k) > 0.1;
      found += is_sink;
      behind += is_sink && k > 0;
    }
    some += behind > 0 ? 1.0 / 3 : 0;
    number += double(found) / 3;
  }
  EXPECT_NEAR(later(all), some, 1e-15);
  EXPECT_NEAR(count(all), number, 1e-15);
  EXPECT_GT(number, 1);
}

}  // namespace
}  // namespace sluice
