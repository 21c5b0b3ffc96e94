// The files of a run in the order in which they may be looked at, cut and written (run_session.h).
#include "train/run_session.h"

#include <fmt/chrono.h>
#include <spdlog/spdlog.h>

#include <ctime>

#include "base/config/json_reader.h"
#include "base/error.h"
#include "base/files/files.h"

namespace sluice {
namespace {

// `stored`: the identity of the data that the checkpoint was `used` on; one that has none yet is believed.
void check_same_data(const ResumePoint& point, const char* used, const std::string& stored, const std::string& now) {
  if (stored.empty() || stored == now) return;
  const std::string text = fmt::format("{} was {} on other data ({}) than this config's ({})",
                                       point.checkpoint.path.string(), used, stored, now);
  if (point.own) throw UserError("{}; put the data back, or name another folder with --out", text);
  spdlog::warn("{}", text);
}

}  // namespace

RunSession::RunSession(const RunFolder* folder, const Experiment& experiment, Json config)
    : experiment_(experiment), config_(std::move(config)) {
  if (folder) files_.emplace(*folder, experiment.log);
}

void RunSession::check_still_ours() const {
  if (files_) files_->folder.check_still_ours();
}

// ---- where the run begins -------------------------------------------------------------------------------------------

std::optional<ResumePoint> RunSession::find_resume_point(const ResumeOption& resume, const TrainerState& now) {
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
  const TrainerState then = TrainerState::of(point->checkpoint);
  check_same_data(*point, "trained", then.data, now.data);
  if (point->own && !now.held_out.empty()) check_same_data(*point, "evaluated", then.held_out, now.held_out);
  if (point->own) return point;
  const int64_t step = point->checkpoint.state.step;
  if (step >= experiment_.train.steps) {
    throw UserError(
        "{} is of step {}, and train.steps is {}: a run that begins from it has nothing to train; raise "
        "train.steps",
        where, step, experiment_.train.steps);
  }
  folder.note_origin(*point);
  return point;
}

// The state of one update rule is of no use to another.
void RunSession::check_optimizer(const ResumePoint& point) const {
  if (point.optimizer == OptimizerState::kFresh || !has_optimizer_state(point.checkpoint)) return;
  const JsonReader train(point.checkpoint.state.config, point.checkpoint.path.string() + "/state.json, config");
  const JsonReader optimizer = train.object("train").object("optimizer");
  const std::string stored = optimizer.has("type") ? optimizer.text("type") : "adamw";
  const std::string& wanted = experiment_.train.optimizer.type;
  if (stored == wanted) return;
  throw UserError(
      "{} has the optimizer state of train.optimizer.type = \"{}\", but this config's is \"{}\": add "
      "--fresh-optimizer to take its weights alone and begin with an empty state, or set the type to \"{}\"",
      point.checkpoint.path.string(), stored, wanted, stored);
}

void RunSession::confirm() const {
  if (files_) files_->folder.confirm();
}

void RunSession::go_on_from(const ResumePoint& point) {
  if (!files_) return;
  if (point.own) tidy_checkpoints(point);
  const auto warning = files_->metrics.truncate_to(point.own ? point.checkpoint.state.metrics : MetricsPosition{});
  if (warning) spdlog::warn("{}", *warning);
  spdlog::info("resumed from {} at step {}", point.checkpoint.path.string(), point.checkpoint.state.step);
}

void RunSession::tidy_checkpoints(const ResumePoint& point) {
  CheckpointStore& store = files_->checkpoints;
  const int64_t step = point.checkpoint.state.step;
  std::vector<int64_t> newer = list_checkpoints(store.folder());
  std::erase_if(newer, [&](int64_t other) { return other <= step; });
  if (point.named && !newer.empty()) {
    spdlog::info("going back to step {}: the newer checkpoints, of steps {}, are removed", step,
                 fmt::join(newer, ", "));
    store.drop_after(step);
  }
  for (const auto& name : store.set_aside_after(step)) spdlog::warn("it was set aside as {}", name.string());
  store.repair(step);
}

void RunSession::start_anew() {
  if (!files_) return;
  if (const int64_t lines = files_->metrics.position().lines; lines > 0)
    spdlog::warn("there is no checkpoint: the run starts over, and its {} metrics lines are dropped", lines);
  files_->metrics.truncate_to({});
}

// ---- where it goes back to ------------------------------------------------------------------------------------------

Checkpoint RunSession::find_good_checkpoint(const std::string& reason) const {
  std::vector<std::string> damaged;
  std::optional<Checkpoint> checkpoint;
  try {
    checkpoint = find_newest_whole(files_->checkpoints.folder(), damaged);
  } catch (const UserError& error) {
    throw RunError("{}; it cannot be rolled back: {}", reason, error.what());
  }
  if (!checkpoint) throw RunError("{}; there is no checkpoint to go back to", reason);
  for (const std::string& text : damaged) spdlog::warn("{}", text);
  return std::move(*checkpoint);
}

void RunSession::go_back_to(const Checkpoint& checkpoint) {
  for (const auto& name : files_->checkpoints.set_aside_after(checkpoint.state.step))
    spdlog::warn("it was set aside as {}", name.string());
  files_->metrics.truncate_to(checkpoint.state.metrics);
}

// ---- what is written ------------------------------------------------------------------------------------------------

void RunSession::append(const Json& line) {
  if (files_) files_->metrics.append(line);
}

void RunSession::flush() {
  if (files_) files_->metrics.flush();
}

void RunSession::save(int64_t step, const TrainerState& trainer, const HostState& tensors) {
  if (!files_) return;
  check_still_ours();
  CheckpointState state;
  state.step = step;
  state.metrics = files_->metrics.sync();
  state.config = config_;
  state.trainer = trainer.json();
  files_->checkpoints.save(std::move(state), tensors.model, tensors.optimizer);
}

void RunSession::write_info(const Json& info) const {
  if (!files_) return;
  check_still_ours();
  write_file_atomic(files_->folder.info_file(), info.dump(2) + "\n");
}

void RunSession::write_attention_map(int64_t step, const Json& map) const {
  const std::filesystem::path folder = files_->folder.attention_folder();
  create_folders(folder);
  write_file_atomic(folder / fmt::format("step_{:08}.json", step), map.dump() + "\n");
}

void RunSession::write_analysis(const Analysis& analysis) const { save_analysis(analysis, files_->folder.path()); }

// ---- the clock, the line of progress --------------------------------------------------------------------------------

void RunSession::start_clock() {
  watch_.restart();
  started_ = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

void RunSession::begin_progress() {
  if (files_) progress_.emplace(experiment_.name, experiment_.train.steps);
}

void RunSession::show_progress(int64_t step, double loss, double lr, double tokens_per_second) {
  if (progress_) progress_->update(step, loss, lr, tokens_per_second);
}

void RunSession::pause_progress() {
  if (progress_) progress_->pause();
}

}  // namespace sluice
