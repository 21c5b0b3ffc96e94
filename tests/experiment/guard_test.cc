// The guard: skip, roll back, stop; and no value that is not finite ever passes or spoils what follows.
#include "experiment/guard.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temp_folder.h"

namespace sluice {
namespace {

using Action = Guard::Action;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

GuardConfig config_of(int64_t max_skips, int64_t max_rollbacks, double spike = 0, int64_t window = 4) {
  GuardConfig config;
  config.max_skips = max_skips, config.max_rollbacks = max_rollbacks;
  config.spike = spike, config.spike_window = window;
  return config;
}

Action judge(Guard& guard, double loss, double norm = 1, bool has_checkpoint = true) {
  return guard.judge(0, loss, norm, has_checkpoint).action;
}

TEST(Guard, NothingThatIsNotFinitePasses) {
  for (const double bad : {kNaN, kInfinity, -kInfinity, -kNaN}) {
    Guard guard(config_of(1, 1));
    EXPECT_EQ(judge(guard, bad, 1), Action::kSkip) << bad;
    EXPECT_EQ(judge(guard, 1, 1), Action::kApply);
    EXPECT_EQ(judge(guard, 1, bad), Action::kSkip) << bad;
    EXPECT_EQ(guard.skipped(), 2);
  }
}

TEST(Guard, RecoversAfterANaNAndCountsOnlySkipsInARow) {
  Guard guard(config_of(2, 1));
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(judge(guard, kNaN), Action::kSkip);
    EXPECT_EQ(judge(guard, kNaN), Action::kSkip);
    EXPECT_EQ(judge(guard, 2.5), Action::kApply);
  }
  EXPECT_EQ(guard.skipped(), 20);
  EXPECT_EQ(guard.rolled_back(), 0);
}

TEST(Guard, SkipsThenRollsBackThenStops) {
  Guard guard(config_of(2, 2));
  const std::vector<Action> round = {Action::kSkip, Action::kSkip};
  for (int rollback = 0; rollback < 2; ++rollback) {
    for (const Action action : round) EXPECT_EQ(judge(guard, kNaN), action);
    EXPECT_EQ(judge(guard, kNaN), Action::kRollBack);
  }
  for (const Action action : round) EXPECT_EQ(judge(guard, kNaN), action);
  const Guard::Verdict verdict = guard.judge(123, kNaN, 1, true);
  EXPECT_EQ(verdict.action, Action::kStop);
  for (const char* part : {"step 123", "the loss is nan", "2 skipped steps", "2 roll-backs", "max_rollbacks"}) {
    EXPECT_NE(verdict.reason.find(part), std::string::npos) << part << " is not in: " << verdict.reason;
  }
  EXPECT_EQ(guard.skipped(), 6);
  EXPECT_EQ(guard.rolled_back(), 2);
}

TEST(Guard, WithoutACheckpointItStops) {
  Guard guard(config_of(0, 5));
  const Guard::Verdict verdict = guard.judge(3, 1, kInfinity, false);
  EXPECT_EQ(verdict.action, Action::kStop);
  EXPECT_NE(verdict.reason.find("the gradient norm is inf"), std::string::npos) << verdict.reason;
  EXPECT_NE(verdict.reason.find("no checkpoint"), std::string::npos) << verdict.reason;
}

TEST(Guard, TheSpikeRuleIsOffByDefault) {
  Guard guard{GuardConfig()};
  for (int i = 0; i < 300; ++i) ASSERT_EQ(judge(guard, 1.0 + 0.01 * (i % 2)), Action::kApply);
  EXPECT_EQ(judge(guard, 1e6), Action::kApply);
}

TEST(Guard, SpikesAreSkippedOnceTheWindowIsFull) {
  Guard guard(config_of(3, 1, 5));
  EXPECT_EQ(judge(guard, 100), Action::kApply) << "the window is empty";
  for (const double loss : {1.0, 1.1, 0.9, 1.0}) EXPECT_EQ(judge(guard, loss), Action::kApply);
  EXPECT_EQ(judge(guard, 1.2), Action::kApply) << "2.8 standard deviations";
  EXPECT_EQ(judge(guard, 9.0), Action::kSkip);
  EXPECT_EQ(judge(guard, 0.0), Action::kApply) << "a fall is no spike";
}

TEST(Guard, ANaNDoesNotSpoilTheSpikeRule) {
  Guard guard(config_of(10, 1, 5));
  for (const double loss : {1.0, 1.1, 0.9, 1.0}) judge(guard, loss);
  EXPECT_EQ(judge(guard, kNaN), Action::kSkip);
  EXPECT_EQ(judge(guard, kInfinity), Action::kSkip);
  EXPECT_EQ(judge(guard, 1.0), Action::kApply) << "it still lets good steps pass";
  EXPECT_EQ(judge(guard, 9.0), Action::kSkip) << "and still sees spikes";
  EXPECT_EQ(judge(guard, 9.0), Action::kSkip) << "which it has not learned to accept";
}

TEST(Guard, AConstantLossHasNoSpikesButAnyRise) {
  Guard guard(config_of(1, 1, 5));
  for (int i = 0; i < 8; ++i) EXPECT_EQ(judge(guard, 2.0), Action::kApply);
  EXPECT_EQ(judge(guard, 2.1), Action::kSkip);
}

TEST(Guard, RestoredItDecidesAsBefore) {
  Guard guard(config_of(2, 1, 5));
  for (const double loss : {1.0, 1.1, 0.9, 1.0 / 3}) judge(guard, loss);
  judge(guard, kNaN);
  Guard restored(config_of(2, 1, 5));
  restored.restore(guard.state());
  EXPECT_EQ(restored.state(), guard.state());
  for (const double loss : {9.0, kNaN, 1.0, 1.05, 9.0}) EXPECT_EQ(judge(restored, loss), judge(guard, loss)) << loss;
  EXPECT_EQ(restored.state(), guard.state());
}

TEST(Guard, RewindKeepsTheCounts) {
  Guard guard(config_of(1, 5, 5, 2));
  judge(guard, 1.0), judge(guard, 2.0);
  const GuardState checkpoint = guard.state();
  judge(guard, 1.5), judge(guard, kNaN);
  ASSERT_EQ(judge(guard, kNaN), Action::kRollBack);
  guard.rewind(checkpoint);
  EXPECT_EQ(guard.rolled_back(), 1) << "or a run could roll back for ever";
  EXPECT_EQ(guard.skipped(), 1);
  EXPECT_EQ(guard.state().window, checkpoint.window);
}

}  // namespace
}  // namespace sluice
