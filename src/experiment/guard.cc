// What makes a step bad, and what follows: skip, roll back, stop (guard.h).
#include "experiment/guard.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "base/config/json_reader.h"
#include "base/error.h"

namespace sluice {

namespace {

std::deque<double> window_of(const Json& state, const std::string& place) {
  std::deque<double> out;
  for (const Json& loss : JsonReader(state, place).list("window")) {
    if (!loss.is_number()) throw UserError("{}: window must be a list of numbers, but has {}", place, shown(loss));
    out.push_back(loss.get<double>());
  }
  return out;
}

// Standard deviations of `value` above the mean of `window`. Computed anew each step: no sum drifts.
double deviations_above(const std::deque<double>& window, double value) {
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

std::string Guard::what_is_wrong(double loss, double gradient_norm) const {
  if (!std::isfinite(loss)) return fmt::format("the loss is {}", loss);
  if (!std::isfinite(gradient_norm)) return fmt::format("the gradient norm is {}", gradient_norm);
  if (config_.spike <= 0 || int64_t(window_.size()) < config_.spike_window) return {};
  const double z = deviations_above(window_, loss);
  if (z <= config_.spike) return {};
  return fmt::format("the loss is {:.6g}, {:.3g} standard deviations above the last {} (train.guard.spike is {})", loss,
                     z, window_.size(), config_.spike);
}

Guard::Verdict Guard::judge(int64_t step, double loss, double gradient_norm, bool has_checkpoint) {
  const std::string problem = what_is_wrong(loss, gradient_norm);
  if (!problem.empty()) return escalate(step, problem, has_checkpoint);
  skipped_in_a_row_ = 0;
  if (config_.spike > 0) {
    window_.push_back(loss);
    while (int64_t(window_.size()) > config_.spike_window) window_.pop_front();
  }
  return {};
}

Guard::Verdict Guard::escalate(int64_t step, const std::string& problem, bool has_checkpoint) {
  if (skipped_in_a_row_ < config_.max_skips) {
    ++skipped_in_a_row_;
    ++skipped_;
    return {Action::kSkip, fmt::format("step {} is skipped: {}", step, problem)};
  }
  const std::string so_far = fmt::format("step {}: {}, after {} skipped steps in a row (train.guard.max_skips is {})",
                                         step, problem, skipped_in_a_row_, config_.max_skips);
  if (!has_checkpoint) return {Action::kStop, so_far + " and there is no checkpoint to roll back to"};
  if (rolled_back_ >= config_.max_rollbacks) {
    return {Action::kStop, fmt::format("{} and {} roll-backs (train.guard.max_rollbacks is {}); try a lower "
                                       "train.optimizer.lr, a longer train.schedule.warmup or train.grad_clip",
                                       so_far, rolled_back_, config_.max_rollbacks)};
  }
  ++rolled_back_;
  skipped_in_a_row_ = 0;
  return {Action::kRollBack, so_far};
}

Json Guard::state() const {
  return {{"skipped", skipped_},
          {"skipped_in_a_row", skipped_in_a_row_},
          {"rolled_back", rolled_back_},
          {"window", std::vector<double>(window_.begin(), window_.end())}};
}

void Guard::restore(const Json& state, const std::string& place) {
  rewind(state, place);
  const JsonReader counts(state, place);
  skipped_ = counts.integer("skipped", 0);
  skipped_in_a_row_ = counts.integer("skipped_in_a_row", 0);
  rolled_back_ = counts.integer("rolled_back", 0);
}

void Guard::rewind(const Json& state, const std::string& place) { window_ = window_of(state, place); }

}  // namespace sluice
