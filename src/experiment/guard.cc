// What makes a step bad, and what follows: skip, roll back, stop (guard.h).
#include "experiment/guard.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "base/error.h"

namespace sluice {

namespace {

// Standard deviations of `value` above the mean of `window`. Computed anew each step: no sum drifts.
double deviations_above(const std::vector<double>& window, double value) {
  const double n = double(window.size());
  const double mean = std::accumulate(window.begin(), window.end(), 0.0) / n;
  double squares = 0;
  for (const double loss : window) squares += (loss - mean) * (loss - mean);
  const double deviation = std::sqrt(squares / n);
  if (value <= mean) return 0;
  return deviation > 0 ? (value - mean) / deviation : INFINITY;
}

}  // namespace

void GuardConfig::describe(Fields& fields) {
  fields
      .add("max_skips", max_skips,
           "steps in a row whose loss or gradient norm may be bad and are left out; one more rolls back to the last "
           "checkpoint")
      .range(0, 1e9);
  fields.add("max_rollbacks", max_rollbacks, "how often a run may roll back; once more stops it").range(0, 1e9);
  fields
      .add("spike", spike,
           "a loss that lies this many standard deviations above the recent ones counts as bad; 0: only what is not "
           "finite does")
      .range(0, 1e6);
  fields.add("spike_window", spike_window, "how many good losses the spike rule compares with").range(2, 1e6);
}

void GuardState::describe(Fields& fields) {
  fields.add("skipped", skipped, "steps that were left out").range(0, INFINITY);
  fields.add("skipped_in_a_row", skipped_in_a_row, "of these the last ones, without a good one since")
      .range(0, INFINITY);
  fields.add("rolled_back", rolled_back, "times").range(0, INFINITY);
  fields.add("window", window, "the good losses that the spike rule compares with, the oldest first");
}

std::string Guard::what_is_wrong(double loss, double gradient_norm) const {
  if (!std::isfinite(loss)) return fmt::format("the loss is {}", loss);
  if (!std::isfinite(gradient_norm)) return fmt::format("the gradient norm is {}", gradient_norm);
  if (config_.spike <= 0 || int64_t(state_.window.size()) < config_.spike_window) return {};
  const double z = deviations_above(state_.window, loss);
  if (z <= config_.spike) return {};
  return fmt::format("the loss is {:.6g}, {:.3g} standard deviations above the last {} (train.guard.spike is {})", loss,
                     z, state_.window.size(), config_.spike);
}

Guard::Verdict Guard::judge(int64_t step, double loss, double gradient_norm, bool has_checkpoint) {
  const std::string problem = what_is_wrong(loss, gradient_norm);
  if (!problem.empty()) return escalate(step, problem, has_checkpoint);
  state_.skipped_in_a_row = 0;
  if (config_.spike > 0) {
    std::vector<double>& window = state_.window;
    window.push_back(loss);
    while (int64_t(window.size()) > config_.spike_window) window.erase(window.begin());
  }
  return {};
}

Guard::Verdict Guard::escalate(int64_t step, const std::string& problem, bool has_checkpoint) {
  if (state_.skipped_in_a_row < config_.max_skips) {
    ++state_.skipped_in_a_row;
    ++state_.skipped;
    return {Action::kSkip, fmt::format("step {} is skipped: {}", step, problem)};
  }
  const std::string so_far = fmt::format("step {}: {}, after {} skipped steps in a row (train.guard.max_skips is {})",
                                         step, problem, state_.skipped_in_a_row, config_.max_skips);
  if (!has_checkpoint) return {Action::kStop, so_far + " and there is no checkpoint to roll back to"};
  if (state_.rolled_back >= config_.max_rollbacks) {
    return {Action::kStop, fmt::format("{} and {} roll-backs (train.guard.max_rollbacks is {}); try a lower "
                                       "train.optimizer.lr, a longer train.schedule.warmup or train.grad_clip",
                                       so_far, state_.rolled_back, config_.max_rollbacks)};
  }
  ++state_.rolled_back;
  state_.skipped_in_a_row = 0;
  return {Action::kRollBack, so_far};
}

}  // namespace sluice
