// Learning rate of a step, exact at both ends. Steps are s = 0 .. total-1; W = warmup, f = final_fraction.
//
//   warm-up   s < W:        peak (s+1)/(W+1), so that step W, the first after it, has exactly the peak
//   constant  peak
//   linear    peak (1 - (1-f) p)                      p = (s-W)/(total-1-W): 0 at step W, 1 at the last step
//   cosine    peak (f + (1-f) (1 + cos(pi p))/2)      same p
//   wsd       peak; over the last D = decay steps p = (s-(total-1-D))/D and a shape: 1-p (linear), 1-sqrt(p) (sqrt)
//
// The last step has exactly peak*f, and so has any step after it. The sqrt cooldown: arXiv 2405.18392.
#pragma once

#include <cstdint>
#include <string>

#include "base/config/config.h"

namespace sluice {

struct ScheduleConfig {
  std::string type = "constant";     // constant, linear, cosine, wsd
  int64_t warmup = 0;                // steps
  double final_fraction = 0.1;       // learning rate of the last step over the peak
  int64_t decay = 0;                 // wsd: steps; 0: a fifth of the run
  std::string decay_shape = "sqrt";  // wsd: linear, sqrt

  void describe(Fields& fields);
};

// Throws UserError unless at least one step has the peak: train.schedule.warmup (+ decay, for wsd) < train.steps.
void check_schedule(const ScheduleConfig& config, int64_t total);

// Of step 0 <= step; `total` is train.steps.
double learning_rate(const ScheduleConfig& config, double peak, int64_t step, int64_t total);

}  // namespace sluice
