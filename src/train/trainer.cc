// A step, what is due after it, and the end (trainer.h).
#include "train/trainer.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "base/error.h"
#include "base/stopwatch.h"
#include "data/shards/shard.h"
#include "train/signals.h"

namespace sluice {
namespace {

Json guard_line(const char* action, int64_t step, const std::string& reason) {
  return {{"kind", "guard"}, {"step", step}, {"action", action}, {"reason", reason}};
}

const RunFolder* root_folder(const RunFolder* folder, const Communicator& ranks) {
  if (!ranks.is_root()) return nullptr;
  check(folder != nullptr, "rank 0 needs the run's folder");
  return folder;
}

}  // namespace

Trainer::Trainer(Backend& backend, const Experiment& experiment, TrainingData data, const RunFolder* folder,
                 Communicator& ranks)
    : backend_(backend),
      experiment_(experiment),
      ranks_(ranks),
      data_(std::move(data)),
      learner_(backend, experiment_, ranks),
      transfer_(backend, learner_, ranks),
      guard_(experiment.train.guard),
      session_(root_folder(folder, ranks), experiment_, experiment_.dump()),
      measurements_(experiment_, data_, learner_, session_, ranks),
      hooks_{Hook{experiment.log.eval_every, true, [this] { measurements_.evaluate(step_); }},
             Hook{experiment.log.probe_every, true, [this] { measurements_.probe(step_); }},
             Hook{experiment.log.analyze_every, true, [this] { measurements_.analyze(step_); }}} {
  state_.data = data_.train->identity();
  state_.held_out = data_.held_out_identity();
}

int Trainer::run(const ResumeOption& resume) {
  session_.start_clock();
  start(resume);
  if (session_.has_folder()) note_unused_vocabulary(experiment_, data_), note_idle_parts(experiment_);
  write_info("running");
  try {
    session_.begin_progress();
    measure_rest();
    train_steps();
    session_.end_progress();
    return finish();
  } catch (const std::exception& error) {
    session_.end_progress();
    if (dynamic_cast<const ShardFailed*>(&error)) save_before_failing();
    note_failure();
    throw;
  }
}

void Trainer::train_steps() {
  while (step_ < experiment_.train.steps && (stop_ = agreed_stop()) == 0) {
    ranks_.expect(fmt::format("step {}", step_ + 1));
    const StepResult result = train_step();
    if (result.verdict.action == Guard::Action::kStop) {
      session_.append(guard_line("stop", step_ + 1, result.verdict.reason));
      throw RunError("{}", result.verdict.reason);
    }
    if (result.verdict.action == Guard::Action::kRollBack) {
      roll_back(result.verdict.reason);
      continue;
    }
    apply(result);
    ++step_;
    after_step(result);
  }
}

// SIGTERM, or another stop signal, on any rank stops all of them before the same step.
int Trainer::agreed_stop() {
  const std::vector<int> signals = ranks_.gather(stop_requested());
  return *std::max_element(signals.begin(), signals.end());
}

// ---- a step ---------------------------------------------------------------------------------------------------------

Trainer::StepResult Trainer::train_step() {
  const Stopwatch watch;
  StepResult result;
  try {
    result.gradients = learner_.differentiate(*data_.train, state_.next_sequence);
  } catch (const UserError&) {  // a token beyond the vocabulary
    save_before_failing();
    throw;
  }
  state_.next_sequence += experiment_.train.batch;
  result.lr = learning_rate(experiment_.train.schedule, experiment_.train.optimizer.lr, step_, experiment_.train.steps);
  result.verdict = guard_.judge(step_ + 1, result.gradients.loss, result.gradients.norm, has_checkpoint_);
  result.seconds = watch.seconds();
  return result;
}

void Trainer::apply(const StepResult& result) {
  last_step_skipped_ = result.verdict.action == Guard::Action::kSkip;
  if (last_step_skipped_) {
    session_.pause_progress();
    spdlog::warn("{}", result.verdict.reason);
    session_.append(guard_line("skip", step_ + 1, result.verdict.reason));
    return;
  }
  const Stopwatch watch;
  learner_.update(result.gradients, result.lr);
  interval_seconds_ += watch.seconds() + result.seconds;
  ++interval_steps_;
}

// ---- what is due after it -------------------------------------------------------------------------------------------

void Trainer::after_step(const StepResult& result) {
  session_.check_still_ours();
  session_.show_progress(step_, result.gradients.loss, result.lr, double(learner_.tokens()) / seconds_per_step(result));
  if (is_due(experiment_.log.every, true)) log_step(result);
  state_.measured = 0;
  measure();
  session_.flush();
  // Not among bad steps: it may be the weights that are to blame.
  if (is_due(experiment_.log.checkpoint_every, false) && !last_step_skipped_) save();
}

// Each appends its lines at once, and is counted when it is done: a run whose held-out data failed goes on with the one
// that failed.
void Trainer::measure() {
  for (; state_.measured < TrainerState::kAllMeasured; ++state_.measured) {
    const Hook& hook = hooks_[size_t(state_.measured)];
    if (is_due(hook.every, hook.at_end)) hook.action();
  }
}

bool Trainer::is_due(int64_t every, bool at_end) const {
  return every > 0 && (step_ % every == 0 || (at_end && step_ == experiment_.train.steps));
}

double Trainer::seconds_per_step(const StepResult& result) const {
  return interval_steps_ > 0 ? interval_seconds_ / double(interval_steps_) : result.seconds;
}

void Trainer::log_step(const StepResult& result) {
  const int64_t tokens = learner_.tokens();
  const double seconds = seconds_per_step(result);
  Json line = {{"kind", "train"},
               {"step", step_},
               {"loss", result.gradients.loss},
               {"lr", result.lr},
               {"grad_norm", result.gradients.norm},
               {"tokens", step_ * tokens},
               {"tokens_per_second", double(tokens) / seconds},
               {"step_ms", 1e3 * seconds}};
  const auto& losses = learner_.model().losses().list();
  for (size_t i = 0; i < losses.size(); ++i) line["loss_" + losses[i].name] = result.gradients.part_losses[i];
  session_.append(line);
  interval_seconds_ = 0;
  interval_steps_ = 0;
}

// A roll-back must find weights that it can go on from, and the guard has seen the loss of the weights before the last
// update only: hence is_sound().
bool Trainer::save() {
  if (!learner_.is_sound()) {
    session_.pause_progress();
    spdlog::warn("step {} is not saved: its weights give a loss that is not finite", step_);
    return false;
  }
  session_.save(step_, state(), transfer_.collect());
  wait_for_root(ranks_);
  saved_step_ = step_;
  has_checkpoint_ = true;
  return true;
}

TrainerState Trainer::state() const {
  TrainerState state = state_;
  state.updates = learner_.optimizer().updates();
  state.seconds = session_.seconds();
  state.guard = guard_.state();
  return state;
}

// ---- going back -----------------------------------------------------------------------------------------------------

void Trainer::roll_back(const std::string& reason) {
  const PatientWait patience(ranks_);
  session_.pause_progress();
  std::optional<Checkpoint> checkpoint;
  if (session_.has_folder()) checkpoint = session_.find_good_checkpoint(reason);
  // The data goes on behind what failed; the clock and the guard's counts go on too.
  const TrainerState then = load(checkpoint ? &*checkpoint : nullptr);
  guard_.rewind(then.guard);
  state_.measured = then.measured;
  if (checkpoint) session_.go_back_to(*checkpoint);
  session_.append(guard_line("roll_back", step_, reason));
  spdlog::warn("{}: back to step {}", reason, step_);
  // What is on disk for this step does not know of the roll-back: a run killed now would forget it, and could roll back
  // for ever.
  saved_step_ = -1;
  save();
}

// ---- the end --------------------------------------------------------------------------------------------------------

int Trainer::finish() {
  const bool done = step_ >= experiment_.train.steps;
  if (done) measurements_.save_attention_map(step_);
  if (!done && last_step_skipped_ && has_checkpoint_) {
    // The weights may be what is wrong: the last good checkpoint stays the newest.
    spdlog::warn("the last step was skipped, so nothing is saved: the run goes on from its newest checkpoint");
    write_info("stopped");
    return stop_;
  }
  if (saved_step_ != step_ && !save()) {
    throw RunError(
        "the run ended at step {} without a checkpoint of it: its weights give a loss that is not finite; "
        "earlier checkpoints are as they were",
        step_);
  }
  write_info(done ? "done" : "stopped");
  if (done && session_.has_folder())
    spdlog::info("done: {} steps, in {}{}", step_, session_.path(), measurements_.outcome());
  return done ? 0 : stop_;
}

void Trainer::write_info(const char* status) {
  if (session_.has_folder()) session_.write_info(info().json(session_, step_, status));
}

// Data that cannot be read any more, or are no tokens of this model, are no fault of the weights: those of the last
// whole step are kept. Not among several ranks, whose exchanges are open.
void Trainer::save_before_failing() noexcept {
  if (ranks_.size() > 1 || step_ == 0 || saved_step_ == step_ || last_step_skipped_) return;
  session_.pause_progress();
  try {
    if (save()) spdlog::info("the {} steps done are saved in a checkpoint", step_);
  } catch (const std::exception& second) {
    spdlog::warn("the steps since the last checkpoint are lost: {}", second.what());
  }
}

// The error that is on its way says what happened; on a full disk there may be no room for more.
void Trainer::note_failure() noexcept {
  try {
    session_.flush();
    write_info("failed");
  } catch (const std::exception&) {
  }
}

}  // namespace sluice
