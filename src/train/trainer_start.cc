// Where a run starts: at a checkpoint of its own, at another run's, or at step 0. See trainer.h.
#include <spdlog/spdlog.h>

#include "base/config/json_reader.h"
#include "base/error.h"
#include "train/trainer.h"

namespace sluice {

// Rank 0 looks, and the others hear what it found.
void Trainer::start(const ResumeOption& resume) {
  const PatientWait patience(ranks_);
  ResumePoint point;
  std::string found;
  if (files_) {
    if (auto here = find_resume_point(resume)) {
      point = std::move(*here);
      found = point.own ? "own" : "fork";
    }
    files_->folder.confirm();
  }
  found = ranks_.broadcast_text(found);
  point.own = found == "own";
  if (found.empty()) start_anew();
  else resume_from(point);
}

std::optional<ResumePoint> Trainer::find_resume_point(const ResumeOption& resume) {
  std::vector<std::string> damaged;
  const RunFolder& folder = files_->folder;
  std::optional<ResumePoint> point = files_->checkpoints.resume_point(folder.resumed_as(resume), damaged);
  for (const std::string& text : damaged) spdlog::warn("{}", text);
  if (!point) return point;
  const Json& stored = point->checkpoint.state.config;
  const std::string where = point->checkpoint.path.string();
  check_same_model(stored, config_, where);
  if (point->own) check_same_experiment(stored, config_, where);
  else check_optimizer(*point);
  check_same_data(*point, "data", "trained", data_identity_);
  if (point->own && !held_out_identity_.empty()) check_same_data(*point, "held_out", "evaluated", held_out_identity_);
  if (point->own) return point;
  const int64_t step = point->checkpoint.state.step;
  if (step >= experiment_.train.steps) {
    throw UserError("{} is of step {}, and train.steps is {}: a run that begins from it has nothing to train; raise train.steps", where,
                    step, experiment_.train.steps);
  }
  folder.note_origin(*point);
  return point;
}

// The state of one update rule is of no use to another.
void Trainer::check_optimizer(const ResumePoint& point) const {
  if (point.optimizer == OptimizerState::kFresh || !has_optimizer_state(point.checkpoint)) return;
  const JsonReader train(point.checkpoint.state.config, point.checkpoint.path.string() + "/state.json, config");
  const JsonReader optimizer = train.object("train").object("optimizer");
  const std::string stored = optimizer.has("type") ? optimizer.text("type") : "adamw";
  const std::string& wanted = experiment_.train.optimizer.type;
  if (stored == wanted) return;
  throw UserError("{} has the optimizer state of train.optimizer.type = \"{}\", but this config's is \"{}\": add "
                  "--fresh-optimizer to take its weights alone and begin with an empty state, or set the type to \"{}\"",
                  point.checkpoint.path.string(), stored, wanted, stored);
}

// `key`: where the checkpoint has the identity of its data; one that has none yet is believed.
void Trainer::check_same_data(const ResumePoint& point, const char* key, const char* use, const std::string& identity) {
  const JsonReader trainer(point.checkpoint.state.trainer, point.checkpoint.path.string() + "/state.json, trainer");
  const std::string stored = trainer.has(key) ? trainer.text(key) : identity;
  if (stored.empty() || stored == identity) return;
  const std::string text = fmt::format("{} was {} on other data ({}) than this config's ({})",
                                       point.checkpoint.path.string(), use, stored, identity);
  if (point.own) throw UserError("{}; put the data back, or name another folder with --out", text);
  spdlog::warn("{}", text);
}

void Trainer::resume_from(const ResumePoint& point) {
  load(files_ ? &point.checkpoint : nullptr, point.optimizer);
  if (files_) {
    if (point.own) tidy_checkpoints(point);
    const auto warning = files_->metrics.truncate_to(point.own ? point.checkpoint.state.metrics : MetricsPosition{});
    if (warning) spdlog::warn("{}", *warning);
    spdlog::info("resumed from {} at step {}", point.checkpoint.path.string(), step_);
  }
  const int64_t steps = experiment_.train.steps;
  if (step_ >= steps) spdlog::info("nothing is left to train: train.steps is {}", steps);
  if (point.own) {
    saved_step_ = step_;
    has_checkpoint_ = true;
    return;
  }
  measured_ = kAllMeasured;  // those are the other run's
  // A fork is a run of its own from its first moment: with a map of before, and a checkpoint to come back to.
  save_attention_map();
  save();
}

void Trainer::tidy_checkpoints(const ResumePoint& point) {
  CheckpointStore& store = files_->checkpoints;
  std::vector<int64_t> newer = list_checkpoints(store.folder());
  std::erase_if(newer, [&](int64_t step) { return step <= step_; });
  if (point.named && !newer.empty()) {
    spdlog::info("going back to step {}: the newer checkpoints, of steps {}, are removed", step_, fmt::join(newer, ", "));
    store.drop_after(step_);
  }
  for (const auto& name : store.set_aside_after(step_)) spdlog::warn("it was set aside as {}", name.string());
  store.repair(step_);
}

void Trainer::start_anew() {
  if (files_) {
    if (const int64_t lines = files_->metrics.position().lines; lines > 0)
      spdlog::warn("there is no checkpoint: the run starts over, and its {} metrics lines are dropped", lines);
    files_->metrics.truncate_to({});
  }
  learner_.model().initialise(experiment_.seed);
  save_attention_map();
  if (experiment_.log.probe_every > 0) probe();
  if (experiment_.log.analyze_every > 0) analyze();
}

}  // namespace sluice
