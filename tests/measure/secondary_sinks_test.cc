// Secondary sinks, on streams that are written down: which tokens point where the first does, and for how long.
#include "measure/figures/secondary_sinks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/philox.h"

namespace sluice {
namespace {

// One number a row, in a plane: angle in degrees and size.
struct Row {
  double degrees, size;
};

struct Found {
  std::vector<double> shares;     // of each block's output
  std::vector<LikeFirst> layers;  // all that there is
  ModelTotals totals;
};

std::vector<float> numbers_of(const std::vector<Row>& rows) {
  std::vector<float> numbers;
  for (const auto& [degrees, size] : rows)
    for (const double x : {std::cos(degrees * M_PI / 180), std::sin(degrees * M_PI / 180)})
      numbers.push_back(float(size * x));
  return numbers;
}

// streams[block]: the rows of one sequence after another. mlps: of each block from 1 on, where there are some.
Found find(const std::vector<std::vector<Row>>& streams, int64_t T, const std::vector<std::vector<Row>>& mlps = {}) {
  const int64_t blocks = int64_t(streams.size()) - 1;
  SecondarySinks sinks(blocks, T, 2);
  Found out;
  out.layers.resize(size_t(blocks));
  // As a model runs: the MLP of a block before the stream in front of that block.
  for (int64_t block = 0; block <= blocks; ++block) {
    if (block < int64_t(mlps.size())) sinks.add_mlp(block + 1, numbers_of(mlps[size_t(block)]));
    sinks.add(block, numbers_of(streams[size_t(block)]), block > 0 ? &out.layers[size_t(block - 1)] : nullptr);
    if (block > 0) out.shares.push_back(out.layers[size_t(block - 1)].share.value());
  }
  sinks.add_lifetimes(out.totals);
  return out;
}

// Eight blocks. The first position rises after block 2 and falls after block 7: blocks 2 to 6 are its own.
std::vector<std::vector<Row>> streams_of(const std::vector<std::vector<int>>& sinks) {
  std::vector<std::vector<Row>> out;
  for (int block = 0; block <= 8; ++block) {
    std::vector<Row> rows = {{30, block >= 2 && block <= 6 ? 100.0 + block : 1.0}};
    for (const std::vector<int>& blocks : sinks) {
      const bool alike = std::find(blocks.begin(), blocks.end(), block) != blocks.end();
      rows.push_back({alike ? 210 + 20.0 : 30 + 40.0, 5});  // against it, 20 degrees beside; or 40 degrees beside
    }
    out.push_back(rows);
  }
  return out;
}

TEST(SecondarySinks, LiveForAShareOfTheDepth) {
  // Of five tokens one lives as long as the first, two for a while, one for a block (an eighth), one outside alone.
  const Found found = find(streams_of({{1, 2, 3, 4, 5, 6, 7}, {3, 4}, {5, 6, 7, 8}, {4}, {1, 7, 8}}), 6);
  EXPECT_EQ(found.shares, (std::vector<double>{.4, .2, .4, .6, .4, .4, .6, .4}));
  EXPECT_EQ(found.totals.primary_like_sinks.value(), 1);
  EXPECT_EQ(found.totals.secondary_sinks.value(), 2);
  EXPECT_EQ(found.totals.secondary_lifetime.count, 4);
  EXPECT_DOUBLE_EQ(found.totals.secondary_lifetime.value(), (5 + 2 + 2 + 1) / 8.0 / 4);
}

// The second and the third: two blocks each, from the third and from the fifth on.
TEST(SecondarySinks, AreSomewhere) {
  const Found found = find(streams_of({{1, 2, 3, 4, 5, 6, 7}, {3, 4}, {5, 6, 7, 8}, {4}, {1, 7, 8}}), 6);
  const ModelTotals& totals = found.totals;
  EXPECT_EQ(totals.secondary_blocks.value(), 2);
  EXPECT_EQ(totals.secondary_position.value(), 2.5);
  EXPECT_EQ(totals.secondary_first_position.value(), 2);
  EXPECT_EQ(totals.secondary_at_second.value(), 0);
  using Values = std::vector<double>;
  EXPECT_EQ(totals.places.secondary, (Values{0, 0, 1, 1, 0, 0}));
  EXPECT_EQ(totals.places.primary_like, (Values{0, 1, 0, 0, 0, 0}));
  EXPECT_EQ(totals.places.lifetimes, (Values{0, 0, 2, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(totals.places.starts, (Values{0, 0, 0, 1, 0, 1, 0, 0, 0}));
  ASSERT_EQ(totals.places.like_first.size(), 8u);
  EXPECT_EQ(totals.places.like_first[0], (Values{0, 1, 0, 0, 0, 1}));
  EXPECT_EQ(totals.places.like_first[3], (Values{0, 1, 1, 0, 1, 0}));
  EXPECT_EQ(totals.places.like_first[7], (Values{0, 0, 0, 1, 0, 1}));
}

TEST(SecondarySinks, WhereThereAreNoneTheyAreNowhere) {
  const ModelTotals totals = find(streams_of({{}, {}}), 3).totals;
  EXPECT_EQ(totals.secondary_sinks.value(), 0);
  for (const Mean& mean : {totals.secondary_blocks, totals.secondary_position, totals.secondary_first_position})
    EXPECT_TRUE(std::isnan(mean_of_some(mean)));
  EXPECT_EQ(totals.places.secondary, std::vector<double>(3));
}

// Two sequences: one with a sink at position 1, of size 5 beside 100 and 2; one without.
TEST(SecondarySinks, HaveSizesAndWhatTheMlpAdds) {
  const std::vector<Row> embedded(6, Row{0, 1});
  const std::vector<Row> stream = {{0, 100}, {190, 5}, {60, 2}, {90, 50}, {180, 1}, {10, 4}};
  const std::vector<Row> mlp = {{60, 7}, {0, 3}, {90, 1}, {90, 2}, {30, 1}, {0, 0}};
  const Found found = find({embedded, stream}, 3, {mlp});
  const LikeFirst& sums = found.layers[0];
  EXPECT_EQ(sums.share.value(), 0.25);
  constexpr double kRounding = 0x1p-21;  // streams are floats
  EXPECT_NEAR(sums.norm.value(), 5, 5 * kRounding);
  EXPECT_NEAR(sums.others_norm.value(), (2 + 1 + 4) / 3.0, 4 * kRounding);
  EXPECT_NEAR(sums.first_norm.value(), 75, 100 * kRounding);
  EXPECT_NEAR(sums.mlp_of_first.value(), (0.5 + 1) / 2, kRounding);
  EXPECT_NEAR(sums.mlp.value(), 1, kRounding);
  EXPECT_NEAR(sums.mlp_of_others.value(), (0 + 0.5 + 0) / 3, kRounding);  // one adds nothing
}

// What an MLP puts out belongs to its own block.
TEST(SecondarySinks, TheMlpsAreThoseOfTheirBlocks) {
  const std::vector<Row> stream = {{0, 10}, {0, 5}};
  const Found found = find({stream, stream, stream}, 2, {{{0, 1}, {0, 1}}, {{60, 1}, {60, 1}}});
  EXPECT_NEAR(found.layers[0].mlp.value(), 1, 1e-6);
  EXPECT_NEAR(found.layers[1].mlp.value(), 0.5, 1e-6);
  EXPECT_EQ(found.layers[1].mlp.count, 1);
}

TEST(SecondarySinks, AreCountedBySequence) {
  std::vector<std::vector<Row>> two = streams_of({{2, 3, 4, 5, 6}, {2, 3, 4, 5, 6}});
  const std::vector<std::vector<Row>> other = streams_of({{3, 4}, {}});
  for (size_t block = 0; block < two.size(); ++block)
    two[block].insert(two[block].end(), other[block].begin(), other[block].end());
  const Found found = find(two, 3);
  EXPECT_EQ(found.totals.primary_like_sinks.value(), 1);  // two and none
  EXPECT_EQ(found.totals.secondary_sinks.value(), 0.5);   // none and one
  EXPECT_EQ(found.shares[3], 0.75);
}

// It rises after the first block and never falls: all blocks count.
TEST(SecondarySinks, LastToTheEndWhereTheFirstDoesNotFall) {
  std::vector<std::vector<Row>> streams;
  for (int block = 0; block <= 3; ++block) streams.push_back({{0, block == 0 ? 1 : 10 + 2.0 * block}, {10, 1}});
  const Found found = find(streams, 2);
  EXPECT_EQ(found.totals.primary_like_sinks.value(), 1);
  EXPECT_EQ(found.totals.secondary_lifetime.value(), 1);
  streams[3] = {{0, 16}, {90, 1}};
  EXPECT_EQ(find(streams, 2).totals.secondary_sinks.value(), 1);
}

TEST(SecondarySinks, TheLeastCosineIsNineTenths) {
  const double degrees = std::acos(0.9) * 180 / M_PI;
  for (const double side : {-1.0, 1.0}) {
    EXPECT_EQ(find({{{0, 1}, {0, 1}}, {{0, 2}, {side * (degrees - 0.01), 1}}}, 2).shares[0], 1);
    EXPECT_EQ(find({{{0, 1}, {0, 1}}, {{0, 2}, {side * (degrees + 0.01), 1}}}, 2).shares[0], 0);
  }
}

TEST(SecondarySinks, ZerosPointNowhereAndNoNumberIsSaid) {
  EXPECT_EQ(find({{{0, 1}, {0, 1}}, {{0, 2}, {0, 0}}}, 2).shares[0], 0);
  EXPECT_EQ(find({{{0, 1}, {0, 1}}, {{0, 0}, {0, 1}}}, 2).shares[0], 0);
  const Found found = find({{{0, 1}, {0, 1}}, {{0, 2}, {0, NAN}}}, 2);
  EXPECT_TRUE(std::isnan(found.shares[0]));
  EXPECT_TRUE(std::isnan(found.totals.secondary_sinks.value()));
  EXPECT_TRUE(std::isnan(found.totals.primary_like_sinks.value()));
  EXPECT_TRUE(std::isnan(found.totals.secondary_lifetime.value()));
  EXPECT_TRUE(std::isnan(found.totals.secondary_position.value()));
  EXPECT_TRUE(std::isnan(found.totals.places.secondary[1]));
  EXPECT_TRUE(std::isnan(found.totals.places.like_first[0][1]));
}

// Random streams: shares against cosines in double.
TEST(SecondarySinks, SharesAreThoseOfAPlainLoop) {
  constexpr int64_t kT = 50, kC = 3;
  std::vector<float> stream(size_t(kT * kC));
  for (size_t i = 0; i < stream.size(); ++i) stream[i] = float(philox(5, 1, i).word[0]) * 0x1p-31f - 1;
  SecondarySinks sinks(1, kT, kC);
  LikeFirst sums;
  sinks.add(1, stream, &sums);
  double count = 0;
  for (int64_t t = 1; t < kT; ++t) {
    double both = 0, own = 0, first = 0;
    for (int64_t c = 0; c < kC; ++c) {
      const double x = stream[size_t(t * kC + c)], y = stream[size_t(c)];
      both += x * y, own += x * x, first += y * y;
    }
    count += std::fabs(both / std::sqrt(own * first)) > 0.9;
  }
  EXPECT_EQ(sums.share.value(), count / double(kT - 1));
  EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace sluice
