// Signals: the first asks, the second ends the process.
#include "train/signals.h"

#include <csignal>

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(Signals, TheFirstOneAsks) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const StopSignals signals;
    EXPECT_EQ(stop_requested(), 0);
    raise(signal);
    EXPECT_EQ(stop_requested(), signal);
  }
  EXPECT_EQ(stop_requested(), 0) << "forgotten when they go";
}

TEST(Signals, TheSecondOneEndsTheProcess) {
  const auto twice = [](int first, int second) {
    const StopSignals signals;
    raise(first);
    raise(second);
  };
  EXPECT_EXIT(twice(SIGINT, SIGINT), testing::KilledBySignal(SIGINT), "");
  EXPECT_EXIT(twice(SIGINT, SIGTERM), testing::KilledBySignal(SIGTERM), "");
}

TEST(Signals, FormerHandlersComeBack) {
  const auto former = std::signal(SIGTERM, SIG_IGN);
  { const StopSignals signals; }
  EXPECT_EQ(std::signal(SIGTERM, former), SIG_IGN);
}

TEST(Signals, ExitCodes) {
  EXPECT_EQ(exit_code_of(SIGINT), 130);
  EXPECT_EQ(exit_code_of(SIGTERM), 143);
  EXPECT_STREQ(signal_name(SIGINT), "SIGINT");
  EXPECT_STREQ(signal_name(SIGTERM), "SIGTERM");
}

}  // namespace
}  // namespace sluice
