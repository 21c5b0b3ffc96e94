// Warm-up, the way down of each schedule, and the checks of their lengths (schedule.h).
#include "experiment/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace sluice {

namespace {

constexpr int64_t kDefaultDecayShare = 5;  // wsd: one step in five

int64_t decay_steps(const ScheduleConfig& config, int64_t total) {
  return config.decay > 0 ? config.decay : std::max<int64_t>(1, total / kDefaultDecayShare);
}

// How far the decay has come: 0 up to `first`, 1 from `last` on.
double progress(int64_t step, int64_t first, int64_t last) {
  if (step <= first) return 0;
  if (step >= last) return 1;
  return double(step - first) / double(last - first);
}

// What is left of the way from the peak down to the final value: exactly 1 at p = 0 and exactly 0 at p = 1.
double remaining(const ScheduleConfig& config, double p) {
  if (config.type == "cosine") return 0.5 * (1 + std::cos(std::numbers::pi * p));
  if (config.type == "wsd" && config.decay_shape == "sqrt") return 1 - std::sqrt(p);
  return 1 - p;
}

}  // namespace

void ScheduleConfig::describe(Fields& fields) {
  fields
      .add("type", type,
           "the learning rate after the warm-up: constant; linear or cosine down to the last step; wsd (warm-up, "
           "stable, decay): the peak, and a decay over the last steps")
      .one_of({"constant", "linear", "cosine", "wsd"});
  fields.add("warmup", warmup, "steps of linear warm-up; the step after them is the first with the peak")
      .range(0, 1e12);
  fields.add("final_fraction", final_fraction, "the learning rate of the last step, as a fraction of the peak")
      .range(0, 1)
      .when("type", {"linear", "cosine", "wsd"});
  fields.add("decay", decay, "steps of the decay at the end; 0: a fifth of train.steps")
      .range(0, 1e12)
      .when("type", {"wsd"});
  fields.add("decay_shape", decay_shape, "linear, or sqrt: 1 - sqrt(progress)")
      .one_of({"linear", "sqrt"})
      .when("type", {"wsd"});
}

void check_schedule(const ScheduleConfig& config, int64_t total) {
  if (config.type == "wsd" && config.warmup + decay_steps(config, total) >= total) {
    throw UserError(
        "train.schedule.warmup ({}) and train.schedule.decay ({}{}) must together be below train.steps "
        "({})",
        config.warmup, decay_steps(config, total), config.decay > 0 ? "" : ", a fifth of the run", total);
  }
  if (config.warmup > 0 && config.warmup >= total) {
    throw UserError(
        "train.schedule.warmup ({}) must be below train.steps ({}), or the peak is never reached; 0 is no warm-up",
        config.warmup, total);
  }
}

double learning_rate(const ScheduleConfig& config, double peak, int64_t step, int64_t total) {
  if (step < config.warmup) return peak * (double(step + 1) / double(config.warmup + 1));
  if (config.type == "constant") return peak;
  const int64_t last = total - 1;
  const int64_t first = config.type == "wsd" ? last - decay_steps(config, total) : config.warmup;
  return peak * std::lerp(config.final_fraction, 1.0, remaining(config, progress(step, first, last)));
}

}  // namespace sluice
