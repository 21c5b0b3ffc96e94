// Plans of a step: whatever the lengths, they do the same work, each row once.
#include <algorithm>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "placement/plan_cost.h"

namespace sluice {
namespace {

ModelWork some_work() {
  ModelWork work;
  work.linear_operations = 6e6;
  work.pair_operations = 3000;
  work.query_bytes = 1024;
  work.key_value_bytes = 512;
  work.result_bytes = 1056;
  return work;
}

Machine some_machine(int64_t tile = 1) {
  Machine machine;
  machine.linear_rate = machine.attention_rate = 1e12;
  machine.bandwidth = 1e9;
  machine.tile = tile;
  return machine;
}

// Long and short ones of `tokens` together, none above `most`.
Pieces some_pieces(int64_t tokens, int32_t most, uint32_t seed) {
  std::mt19937 random(seed);
  Pieces pieces;
  while (tokens > 0) {
    const auto longest = int32_t(random() % 4 == 0 ? most : std::max(1, most / 16));
    const auto length = int32_t(std::min<int64_t>(tokens, 1 + random() % uint32_t(longest)));
    pieces.push_back(length);
    tokens -= length;
  }
  return pieces;
}

struct Case {
  int64_t ranks, tokens;
  int32_t most;
};
// Windows shorter than a rank's share, and longer ones.
constexpr Case kCases[] = {{2, 64, 64},     {3, 500, 100},  {4, 1000, 3000},
                           {8, 4096, 4096}, {7, 300, 2000}, {16, 1024, 8192}};

std::vector<Plan> plans_of(const Pieces& pieces, const PlanLimits& limits) {
  return make_plans(pieces, limits, some_work(), some_machine());
}

int64_t pairs_of(const std::vector<Rows>& all) {
  int64_t pairs = 0;
  for (const Rows& rows : all) pairs += rows.pairs();
  return pairs;
}

// How often each row of each piece occurs.
std::vector<std::vector<int>> counted(const Plan& plan, const Pieces& pieces, bool attended) {
  std::vector<std::vector<int>> count;
  for (const int32_t length : pieces) count.emplace_back(length, 0);
  for (size_t rank = 0; rank < plan.ranks.size(); ++rank)
    for (const Rows& rows : attended ? plan.attended(rank) : plan.ranks[rank].resident)
      for (int32_t row = rows.begin; row < rows.end; ++row) ++count.at(size_t(rows.piece)).at(size_t(row));
  return count;
}

TEST(Rows, CountsPairsAsTheSumOverItsRows) {
  for (const Rows rows : {Rows{0, 0, 1}, Rows{0, 0, 10}, Rows{0, 3, 17}, Rows{0, 16, 17}}) {
    int64_t pairs = 0;
    for (int64_t row = rows.begin; row < rows.end; ++row) pairs += row + 1;
    EXPECT_EQ(rows.pairs(), pairs);
    EXPECT_EQ(rows.computed_pairs(1), pairs);
  }
}

TEST(Rows, ComputesWholeTiles) {
  EXPECT_EQ((Rows{0, 0, 1}.computed_pairs(128)), 128 * 128);
  EXPECT_EQ((Rows{0, 0, 256}.computed_pairs(128)), 128 * 128 + 128 * 256);
  EXPECT_EQ((Rows{0, 100, 230}.computed_pairs(128)), 128 * 256 + 128 * 256);  // rows 100 to 227, then 228 and 229
}

TEST(Rows, AndItsMirrorImageCostTheSameWhereverItIs) {
  constexpr int32_t kRows = 37;
  for (int32_t first = 0; first < kRows; ++first) {
    const int32_t last = kRows - 1 - first;
    EXPECT_EQ((Rows{0, first, first + 1}.pairs() + Rows{0, last, last + 1}.pairs()), kRows + 1);
  }
}

TEST(Plan, HasEachRowOnceAndAttendsFromItOnce) {
  for (const Case& c : kCases) {
    const Pieces pieces = some_pieces(c.ranks * c.tokens, c.most, 1);
    for (const Plan& plan : plans_of(pieces, {.ranks = c.ranks, .block = 4})) {
      for (const bool attended : {false, true})
        for (const std::vector<int>& of_piece : counted(plan, pieces, attended))
          ASSERT_EQ(std::count(of_piece.begin(), of_piece.end(), 1), int64_t(of_piece.size())) << plan.name;
    }
  }
}

TEST(Plan, ConservesTheWork) {
  for (const Case& c : kCases) {
    const Pieces pieces = some_pieces(c.ranks * c.tokens, c.most, 2);
    int64_t total = 0;
    for (const int32_t length : pieces) total += int64_t{length} * (length + 1) / 2;
    for (const Plan& plan : plans_of(pieces, {.ranks = c.ranks})) {
      int64_t pairs = 0, tokens = 0;
      const PlanCost cost = cost_of(plan, pieces, some_work(), some_machine());
      double sent = 0, received = 0;
      for (const RankCost& rank : cost.ranks) {
        pairs += rank.pairs;
        tokens += rank.tokens;
        sent += rank.sent;
        received += rank.received;
      }
      EXPECT_EQ(pairs, total) << plan.name;
      EXPECT_EQ(tokens, c.ranks * c.tokens) << plan.name;
      EXPECT_DOUBLE_EQ(sent, received) << plan.name;
      EXPECT_GE(cost.idle_share, -1e-12) << plan.name;
    }
  }
}

TEST(Plan, LeavesEqualTokensOnEachRankWhereTheyAreNotPackedByCost) {
  const Pieces pieces = some_pieces(8 * 1024, 3000, 3);
  const PlanLimits limits{.ranks = 8};
  for (const Plan& plan : {plan_fixed(pieces, limits), plan_disaggregated(pieces, limits, some_work())})
    for (const RankCost& rank : cost_of(plan, pieces, some_work(), some_machine()).ranks) EXPECT_EQ(rank.tokens, 1024);
  // Of a piece that does not divide, a rank has two rows more than another at most.
  for (const RankCost& rank : cost_of(plan_per_document(pieces, limits), pieces, some_work(), some_machine()).ranks)
    EXPECT_NEAR(double(rank.tokens), 1024, 2.0 * double(pieces.size()));
}

TEST(Plan, PerDocumentHasNearlyEqualPairs) {
  const Pieces pieces = {4096, 1600, 2496};  // multiples of 2 * 8 parts
  const Plan plan = plan_per_document(pieces, {.ranks = 8});
  for (const RankRows& rank : plan.ranks) EXPECT_EQ(pairs_of(rank.resident), pairs_of(plan.ranks[0].resident));
}

TEST(Plan, VariablePackingGivesTheLongestPieceARankOfItsOwn) {
  const Pieces pieces = {400, 50, 50, 50, 50, 50, 50, 50, 50};
  const Plan plan = plan_variable(pieces, {.ranks = 2}, some_work(), some_machine());
  ASSERT_EQ(plan.ranks[0].resident.size(), 1u);
  EXPECT_EQ(plan.ranks[0].resident[0].piece, 0);
  EXPECT_EQ(plan.ranks[1].resident.size(), 8u);
}

TEST(Plan, VariablePackingKeepsToTheTokensThatFitWhileOthersHaveRoom) {
  const Pieces pieces = {300, 100, 100, 100, 100, 100};
  const PlanLimits limits{.ranks = 2, .most_tokens = 450};
  ModelWork attention_alone = some_work();
  attention_alone.linear_operations = 0;
  const Plan plan = plan_variable(pieces, limits, attention_alone, some_machine());
  EXPECT_EQ(plan.unplaced, 0);
  EXPECT_LE(cost_of(plan, pieces, attention_alone, some_machine()).most_tokens(), 450);
  // Without the limit all short ones go to the other rank.
  EXPECT_EQ(plan_variable(pieces, {.ranks = 2}, attention_alone, some_machine()).ranks[1].resident.size(), 5u);
  const Plan tight = plan_variable(pieces, {.ranks = 2, .most_tokens = 350}, attention_alone, some_machine());
  EXPECT_EQ(tight.unplaced, 2);
}

double imbalance(const Plan& plan) {
  int64_t most = 0, total = 0;
  for (size_t rank = 0; rank < plan.ranks.size(); ++rank) {
    most = std::max(most, pairs_of(plan.attended(rank)));
    total += pairs_of(plan.attended(rank));
  }
  return double(most) * double(plan.ranks.size()) / double(total);
}

TEST(Disaggregated, IsBalancedWithinTheTolerance) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    for (const Case& c : kCases) {
      const Pieces pieces = some_pieces(c.ranks * c.tokens, c.most, seed);
      for (const double tolerance : {0.1, 0.3}) {
        const Plan plan =
            plan_disaggregated(pieces, {.ranks = c.ranks, .tolerance = tolerance, .block = 1}, some_work());
        EXPECT_LE(imbalance(plan), 1 + tolerance + 1e-12) << c.ranks << " ranks, seed " << seed;
      }
    }
  }
}

// Many ranks lack less than a block each: they go beyond the mean, as far as the tolerance.
TEST(Disaggregated, IsBalancedWithinTheToleranceOverManyRanksInBlocks) {
  for (uint32_t seed = 0; seed < 5; ++seed) {
    Pieces pieces = some_pieces(95 * 8192, 2048, seed);
    pieces.insert(pieces.begin(), 8192);
    const Plan plan = plan_disaggregated(pieces, {.ranks = 96, .tolerance = 0.1, .block = 32}, some_work());
    EXPECT_LE(imbalance(plan), 1.1 + 1e-12) << "seed " << seed;
  }
}

TEST(Disaggregated, IsNotBalancedWhereTheLengthsForbidIt) {
  // 10 pairs and 4: what may move is 3, and a row with its mirror image is 5.
  const Plan plan = plan_disaggregated({4, 1, 1, 1, 1}, {.ranks = 2, .block = 1}, some_work());
  EXPECT_EQ(plan.moves, 0);
  EXPECT_DOUBLE_EQ(imbalance(plan), 10.0 / 7);
}

TEST(Disaggregated, MovesWholeBlocks) {
  const Pieces pieces = {1024, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64};
  const Plan plan = plan_disaggregated(pieces, {.ranks = 2, .block = 32}, some_work());
  EXPECT_EQ(plan.moves, 1);
  std::vector<Rows> moved;
  for (const Rows& rows : plan.ranks[1].attended)
    if (rows.piece == 0) moved.push_back(rows);
  ASSERT_EQ(moved.size(), 2u);
  EXPECT_EQ(moved[0].begin, 0);
  EXPECT_EQ(moved[0].count() % 32, 0);
  EXPECT_EQ(moved[1].end, 1024);
  EXPECT_EQ(moved[1].count(), moved[0].count());
}

TEST(Disaggregated, MovesNothingWhereRanksAreEqual) {
  for (const Pieces& pieces : {Pieces{512, 512, 512, 512}, Pieces{256, 128, 128, 256, 128, 128}, Pieces(4096, 1)}) {
    const auto ranks = int64_t(pieces.size() == 6 ? 2 : 4);
    const Plan plan = plan_disaggregated(pieces, {.ranks = ranks, .tolerance = 0}, some_work());
    EXPECT_EQ(plan.moves, 0);
    EXPECT_EQ(cost_of(plan, pieces, some_work(), some_machine()).most_bytes(), 0);
  }
}

TEST(PlanCost, CountsTheBytesOfAMoveByHand) {
  // Rank 1 attends from the first and the last 10 rows of piece 0, 100 rows that lie on rank 0.
  const Pieces pieces = {100, 100};
  Plan plan;
  plan.at_home = false;
  plan.ranks = {{.resident = {{0, 0, 100}}, .attended = {{0, 10, 90}}},
                {.resident = {{1, 0, 100}}, .attended = {{1, 0, 100}, {0, 0, 10}, {0, 90, 100}}}};
  const ModelWork work = some_work();
  const PlanCost cost = cost_of(plan, pieces, work, some_machine());
  EXPECT_DOUBLE_EQ(cost.ranks[0].sent, 3 * (20 * work.query_bytes + 100 * work.key_value_bytes));
  EXPECT_DOUBLE_EQ(cost.ranks[0].received, 3 * 20 * work.result_bytes);
  EXPECT_DOUBLE_EQ(cost.ranks[1].sent, cost.ranks[0].received);
  EXPECT_DOUBLE_EQ(cost.ranks[1].received, cost.ranks[0].sent);
  EXPECT_EQ(cost.ranks[1].foreign_keys, 100);
  EXPECT_EQ(cost.ranks[0].foreign_keys, 0);
}

TEST(PlanCost, ARowThatIsCutOverRanksNeedsTheKeysBeforeIt) {
  const Pieces pieces = {200};
  const PlanCost cost = cost_of(plan_fixed(pieces, {.ranks = 2}), pieces, some_work(), some_machine());
  EXPECT_EQ(cost.ranks[0].foreign_keys, 0);
  EXPECT_EQ(cost.ranks[1].foreign_keys, 100);
  const PlanCost gathered = cost_of(plan_per_document(pieces, {.ranks = 2}), pieces, some_work(), some_machine());
  for (const RankCost& rank : gathered.ranks) EXPECT_EQ(rank.foreign_keys, 100);
}

TEST(PlanCost, AStepLastsAsLongAsItsSlowestRank) {
  const Pieces pieces = {100, 50, 50};
  const ModelWork work = some_work();
  const Machine machine = some_machine();
  const PlanCost fixed = cost_of(plan_fixed(pieces, {.ranks = 2}), pieces, work, machine);
  const double linear = 100 * 6e6 / 1e12, first = 5050 * 3000 / 1e12, second = 2550 * 3000 / 1e12;
  EXPECT_DOUBLE_EQ(fixed.step_seconds, linear + first);
  EXPECT_DOUBLE_EQ(fixed.idle_share, 1 - (2 * linear + first + second) / (2 * (linear + first)));
  EXPECT_DOUBLE_EQ(fixed.pairs_max_over_mean(), 5050 / 3800.0);
  // Disaggregated: an exchange that takes longer than the computation is what the step lasts.
  Machine slow = machine;
  slow.bandwidth = 1;
  const PlanCost cost = cost_of(plan_disaggregated(pieces, {.ranks = 2, .block = 1}, work), pieces, work, slow);
  EXPECT_DOUBLE_EQ(cost.step_seconds, cost.most_bytes());
  EXPECT_GT(cost.moves, 0);
}

}  // namespace
}  // namespace sluice
