// The guard: no step whose loss or gradient norm is not finite reaches the weights.
//
//   bad step                          -> skip it (weights and optimizer stay; the data goes on)
//   more than max_skips in a row      -> roll back to the last good checkpoint
//   more than max_rollbacks           -> stop, with a reason
//
// It looks at the raw values, never at a statistic of them that one NaN could spoil. The spike rule (off by default)
// also calls a loss bad that lies more than `spike` standard deviations above the mean of the last `spike_window` good
// losses; only good losses enter that window, and the rule waits until it is full.
//
// A step that is replayed on the same data fails in the same way: draw data by (seed, step, rolled_back()).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/config/config.h"

namespace sluice {

struct GuardConfig {
  int64_t max_skips = 5;
  int64_t max_rollbacks = 2;
  double spike = 0;            // standard deviations; 0: off
  int64_t spike_window = 128;  // losses

  void describe(Fields& fields);
};

// What it has counted, and the good losses of its window, the oldest first.
struct GuardState {
  int64_t skipped = 0, skipped_in_a_row = 0, rolled_back = 0;
  std::vector<double> window;

  void describe(Fields& fields);
  bool operator==(const GuardState&) const = default;
};

class Guard {
 public:
  enum class Action { kApply, kSkip, kRollBack, kStop };
  struct Verdict {
    Action action = Action::kApply;
    std::string reason;  // empty for kApply; one sentence for the log, or for the RunError of kStop
  };

  explicit Guard(const GuardConfig& config) : config_(config) {}

  // To be called once a step, before the update. Without a checkpoint to go back to, kStop comes in place of kRollBack.
  Verdict judge(int64_t step, double loss, double gradient_norm, bool has_checkpoint);

  int64_t skipped() const { return state_.skipped; }          // steps, in all
  int64_t rolled_back() const { return state_.rolled_back; }  // times

  const GuardState& state() const { return state_; }
  void restore(const GuardState& state) { state_ = state; }  // resume: everything
  // Roll-back: the window of the checkpoint's time; the counts go on.
  void rewind(const GuardState& then) { state_.window = then.window; }

 private:
  std::string what_is_wrong(double loss, double gradient_norm) const;  // empty: nothing
  Verdict escalate(int64_t step, const std::string& problem, bool has_checkpoint);

  GuardConfig config_;
  GuardState state_;
};

}  // namespace sluice
