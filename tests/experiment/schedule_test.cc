// Schedules: the values at both ends are exact, not near.
#include "experiment/schedule.h"

#include <cmath>
#include <string>

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temp_folder.h"

namespace sluice {
namespace {

constexpr double kPeak = 3e-4;

ScheduleConfig config_of(const std::string& type, int64_t warmup, double final_fraction = 0.1) {
  ScheduleConfig config;
  config.type = type, config.warmup = warmup, config.final_fraction = final_fraction;
  config.decay = 30;
  return config;
}

TEST(Schedule, EndsAreExact) {
  // A cosine over step/total instead of what follows the warm-up ends above the floor; hence warm-ups of all sizes.
  for (const std::string type : {"constant", "linear", "cosine", "wsd"}) {
    for (const int64_t warmup : {0, 1, 7, 60}) {
      for (const double fraction : {0.0, 0.1, 1.0 / 3, 1.0}) {
        for (const int64_t total : {100, 101, 9'999}) {
          const ScheduleConfig config = config_of(type, warmup, fraction);
          ASSERT_NO_THROW(check_schedule(config, total));
          SCOPED_TRACE(fmt::format("{} {} {} {}", type, warmup, fraction, total));
          EXPECT_EQ(learning_rate(config, kPeak, warmup, total), kPeak);
          const double last = type == "constant" ? kPeak : kPeak * fraction;
          EXPECT_EQ(learning_rate(config, kPeak, total - 1, total), last);
          EXPECT_EQ(learning_rate(config, kPeak, total + 5, total), last) << "after the end";
        }
      }
    }
  }
}

TEST(Schedule, WarmUpRisesInEqualStepsFromAboveZero) {
  const ScheduleConfig config = config_of("cosine", 4);
  for (int64_t step = 0; step <= 4; ++step) {
    EXPECT_DOUBLE_EQ(learning_rate(config, 1.0, step, 100), double(step + 1) / 5) << step;
  }
}

TEST(Schedule, ValuesBetweenTheEnds) {
  // total 11, no warm-up: step 5 is half the way.
  EXPECT_DOUBLE_EQ(learning_rate(config_of("linear", 0, 0.2), 1.0, 5, 11), 0.6);
  EXPECT_DOUBLE_EQ(learning_rate(config_of("cosine", 0, 0.2), 1.0, 5, 11), 0.6);
  EXPECT_NEAR(learning_rate(config_of("cosine", 0, 0), 1.0, 2, 9), (1 + std::sqrt(0.5)) / 2, 1e-15);
  EXPECT_EQ(learning_rate(config_of("constant", 3), 1.0, 50, 100), 1.0);

  ScheduleConfig wsd = config_of("wsd", 10, 0);
  wsd.decay = 40;  // of 100: the peak until step 59, then steps 60 to 99 go down
  EXPECT_EQ(learning_rate(wsd, 1.0, 59, 100), 1.0);
  EXPECT_LT(learning_rate(wsd, 1.0, 60, 100), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 1.0, 69, 100), 0.5) << "1 - sqrt(1/4)";
  wsd.decay_shape = "linear";
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 1.0, 69, 100), 0.75);
  wsd.decay = 0;  // a fifth
  EXPECT_EQ(learning_rate(wsd, 1.0, 79, 100), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(wsd, 1.0, 89, 100), 0.5);
}

TEST(Schedule, NeverRisesAfterTheWarmUpNorLeavesItsRange) {
  for (const std::string type : {"constant", "linear", "cosine", "wsd"}) {
    const ScheduleConfig config = config_of(type, 13, 0.3);
    double before = kPeak;
    for (int64_t step = 13; step < 200; ++step) {
      const double now = learning_rate(config, kPeak, step, 200);
      EXPECT_LE(now, before) << type << " " << step;
      EXPECT_GE(now, kPeak * 0.3) << type << " " << step;
      before = now;
    }
  }
}

TEST(Schedule, ARunOfOneStepHasThePeak) {
  for (const std::string type : {"constant", "linear", "cosine"}) {
    EXPECT_NO_THROW(check_schedule(config_of(type, 0), 1));
    EXPECT_EQ(learning_rate(config_of(type, 0), kPeak, 0, 1), kPeak) << type;
  }
}

TEST(Schedule, WhatDoesNotFitNamesTheKeys) {
  const auto problem = [](const ScheduleConfig& config, int64_t total) {
    return message_of<UserError>([&] { check_schedule(config, total); });
  };
  EXPECT_EQ(
      problem(config_of("cosine", 100), 100),
      "train.schedule.warmup (100) must be below train.steps (100), or the peak is never reached; 0 is no warm-up");
  EXPECT_EQ(problem(config_of("wsd", 70), 100),
            "train.schedule.warmup (70) and train.schedule.decay (30) must together be below train.steps (100)");
  EXPECT_NO_THROW(check_schedule(config_of("wsd", 69), 100));
  ScheduleConfig share = config_of("wsd", 80);
  share.decay = 0;
  EXPECT_EQ(problem(share, 100),
            "train.schedule.warmup (80) and train.schedule.decay (20, a fifth of the run) must together be below "
            "train.steps (100)");
}

TEST(Schedule, ConfigKeysAreStrict) {
  ScheduleConfig config;
  Fields fields;
  config.describe(fields);
  fields.parse(Json::parse(R"({"type":"wsd","warmup":5,"decay":10,"decay_shape":"linear"})"), "train.schedule");
  EXPECT_EQ(config.decay, 10);
  EXPECT_THROW(fields.parse(Json::parse(R"({"type":"step"})"), "train.schedule"), UserError);
  EXPECT_THROW(fields.parse(Json::parse(R"({"final_fraction":1.5})"), "train.schedule"), UserError);
}

}  // namespace
}  // namespace sluice
