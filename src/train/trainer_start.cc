// Where a run starts: at a checkpoint of its own, at another run's, or at step 0 (trainer.h).
#include <spdlog/spdlog.h>

#include "train/trainer.h"

namespace sluice {

// Rank 0 looks, and the others hear what it found.
void Trainer::start(const ResumeOption& resume) {
  const PatientWait patience(ranks_);
  ResumePoint point;
  std::string found;
  if (session_.has_folder()) {
    if (auto here = session_.find_resume_point(resume, state_)) {
      point = std::move(*here);
      found = point.own ? "own" : "fork";
    }
    session_.confirm();
  }
  found = ranks_.broadcast_text(found);
  point.own = found == "own";
  if (found.empty()) start_anew();
  else resume_from(point);
}

void Trainer::start_anew() {
  session_.start_anew();
  learner_.model().initialise(experiment_.seed);
  measurements_.save_attention_map(0);
  if (experiment_.log.probe_every > 0) measurements_.probe(0);
  if (experiment_.log.analyze_every > 0) measurements_.analyze(0);
}

void Trainer::resume_from(const ResumePoint& point) {
  const TrainerState then = load(session_.has_folder() ? &point.checkpoint : nullptr, point.optimizer);
  state_.next_sequence = then.next_sequence;
  state_.measured = then.measured;
  session_.add_seconds(then.seconds);
  guard_.restore(then.guard);
  session_.go_on_from(point);
  const int64_t steps = experiment_.train.steps;
  if (step_ >= steps) spdlog::info("nothing is left to train: train.steps is {}", steps);
  if (point.own) {
    saved_step_ = step_;
    has_checkpoint_ = true;
    return;
  }
  state_.measured = TrainerState::kAllMeasured;  // those are the other run's
  // A fork is a run of its own from its first moment: with a map of before, and a checkpoint to come back to.
  measurements_.save_attention_map(step_);
  save();
}

// Of the step that a run failed at, if it did while it was measured.
void Trainer::measure_rest() {
  if (state_.measured == TrainerState::kAllMeasured) return;
  measure();
  saved_step_ = -1;
}

TrainerState Trainer::load(const Checkpoint* checkpoint, OptimizerState optimizer) {
  const HostState tensors = transfer_.room();
  if (checkpoint) load_checkpoint(*checkpoint, tensors.model, tensors.optimizer, optimizer);
  transfer_.distribute(tensors);
  Json then;
  if (checkpoint) {
    TrainerState stored = TrainerState::of(*checkpoint);
    if (optimizer == OptimizerState::kFresh) stored.updates = 0;
    then = {{"step", checkpoint->state.step}, {"trainer", stored.json()}};
  }
  then = Json::parse(ranks_.broadcast_text(then.dump(-1, ' ', false, Json::error_handler_t::replace)));
  step_ = then.at("step");
  const TrainerState state = TrainerState::read(then.at("trainer"), "rank 0's checkpoint");
  learner_.optimizer().set_updates(state.updates);
  return state;
}

}  // namespace sluice
