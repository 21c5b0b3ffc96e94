#include "train/trainer.h"

#include <fmt/chrono.h>
#include <omp.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <numbers>

#include "base/build_info.h"
#include "base/config/json_reader.h"
#include "base/error.h"
#include "base/files/files.h"
#include "base/stopwatch.h"
#include "data/shards/shard.h"
#include "train/signals.h"

namespace sluice {
namespace {

Json guard_line(const char* action, int64_t step, const std::string& reason) {
  return {{"kind", "guard"}, {"step", step}, {"action", action}, {"reason", reason}};
}

// For a person, of a risk line.
std::string risks_text(const Json& line) {
  const std::string bigram = fmt::format("bigram risk {:.4g} nats", line.at("bigram").get<double>());
  if (!line.contains("backcopy")) return fmt::format("; {} (no triggers)", bigram);
  return fmt::format("; backcopy risk {:.2g}, {}", line.at("backcopy").get<double>(), bigram);
}

bool needs_held_out(const LogConfig& log) { return log.eval_every > 0 || log.probe_every > 0 || log.map_positions > 0; }

}  // namespace

TrainingData TrainingData::open(const Experiment& experiment) {
  const auto source = [&](Split split, int64_t length) {
    return make_source(experiment.data, split, length, experiment.model.vocab_size, experiment.seed);
  };
  const int64_t context = experiment.model.context;
  TrainingData data;
  data.train = source(Split::kTrain, context);
  if (experiment.log.analyze_every > 0) data.short_held_out = source(Split::kHeldOut, analysis_length(context));
  if (!needs_held_out(experiment.log)) return data;
  data.held_out = source(Split::kHeldOut, context);
  const TokenizerId trained = data.train->tokenizer(), held_out = data.held_out->tokenizer();
  if (held_out.differs(trained)) {
    throw UserError("data.validation_shards were encoded by another tokenizer ({}) than the training data ({})",
                    held_out.text(), trained.text());
  }
  return data;
}

Trainer::Trainer(Backend& backend, const Experiment& experiment, TrainingData data, const RunFolder* folder,
                 Communicator& ranks)
    : backend_(backend), experiment_(experiment), ranks_(ranks), config_(experiment_.dump()), data_(std::move(data)),
      data_identity_(data_.train->identity()), held_out_identity_(data_.held_out ? data_.held_out->identity() : ""),
      learner_(backend, experiment_, ranks), transfer_(backend, learner_, ranks), guard_(experiment.train.guard) {
  if (!ranks.is_root()) return;
  check(folder != nullptr, "rank 0 needs the run's folder");
  files_.emplace(*folder, experiment.log);
  if (data_.held_out) prober_.emplace(learner_.model(), *data_.held_out, experiment.log.probe_batch);
  if (!data_.short_held_out) return;
  AnalysisOptions options;
  options.sequences = experiment.log.analyze_sequences;
  analyzer_.emplace(learner_.model(), *data_.short_held_out, options);
}

int Trainer::run(const ResumeOption& resume) {
  watch_.restart();
  started_text_ = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
  start(resume);
  if (files_) note_unused_vocabulary();
  write_info("running");
  try {
    if (files_) progress_.emplace(experiment_.name, experiment_.train.steps);
    measure_rest();
    train_steps();
    progress_.reset();
    return finish();
  } catch (const std::exception& error) {
    progress_.reset();
    if (dynamic_cast<const ShardFailed*>(&error)) save_before_failing();
    note_failure();
    throw;
  }
}

// Data that cannot be read any more, or are no tokens of this model, are no fault of the weights: those of the last whole
// step are kept. Not among several ranks, whose exchanges are open.
void Trainer::save_before_failing() noexcept {
  if (ranks_.size() > 1 || step_ == 0 || saved_step_ == step_ || last_step_skipped_) return;
  if (progress_) progress_->pause();
  try {
    if (save()) spdlog::info("the {} steps done are saved in a checkpoint", step_);
  } catch (const std::exception& second) {
    spdlog::warn("the steps since the last checkpoint are lost: {}", second.what());
  }
}

// SIGTERM, or another stop signal, on any rank stops all of them before the same step.
int Trainer::agreed_stop() {
  const std::vector<int> signals = ranks_.gather(stop_requested());
  return *std::max_element(signals.begin(), signals.end());
}

void Trainer::wait_for_root() {
  const PatientWait patience(ranks_);
  ranks_.barrier();
}

void Trainer::append(const Json& line) {
  if (files_) files_->metrics.append(line);
}

void Trainer::train_steps() {
  while (step_ < experiment_.train.steps && (stop_ = agreed_stop()) == 0) {
    ranks_.expect(fmt::format("step {}", step_ + 1));
    const StepResult result = train_step();
    if (result.verdict.action == Guard::Action::kStop) {
      append(guard_line("stop", step_ + 1, result.verdict.reason));
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

bool Trainer::due_or_last(int64_t every) const {
  return due(every) || (every > 0 && step_ == experiment_.train.steps);
}

// The measurements of the step, each of which appends its lines at once; `measured_` counts them, so that a run whose
// held-out data failed goes on with the one that failed.
void Trainer::measure() {
  if (measured_ < 1 && due_or_last(experiment_.log.eval_every)) evaluate();
  measured_ = std::max(measured_, 1);
  if (measured_ < 2 && due_or_last(experiment_.log.probe_every)) probe();
  measured_ = 2;
  if (due_or_last(experiment_.log.analyze_every)) analyze();
  measured_ = kAllMeasured;
}

// Of the step that a run failed at, if it did while it was measured.
void Trainer::measure_rest() {
  if (measured_ == kAllMeasured) return;
  measure();
  saved_step_ = -1;
}

int Trainer::finish() {
  const bool done = step_ >= experiment_.train.steps;
  if (done) save_attention_map();
  if (!done && last_step_skipped_ && has_checkpoint_) {
    // The weights may be what is wrong: the last good checkpoint stays the newest.
    spdlog::warn("the last step was skipped, so nothing is saved: the run goes on from its newest checkpoint");
    write_info("stopped");
    return stop_;
  }
  if (saved_step_ != step_ && !save()) {
    throw RunError("the run ended at step {} without a checkpoint of it: its weights give a loss that is not finite; "
                   "earlier checkpoints are as they were",
                   step_);
  }
  write_info(done ? "done" : "stopped");
  if (done && files_) spdlog::info("done: {} steps, in {}{}", step_, files_->folder.path().string(), outcome_);
  return done ? 0 : stop_;
}

// ---- a step ---------------------------------------------------------------------------------------------------------

Trainer::StepResult Trainer::train_step() {
  const Stopwatch watch;
  StepResult result;
  try {
    result.gradients = learner_.differentiate(*data_.train, next_sequence_);
  } catch (const UserError&) {  // a token beyond the vocabulary
    save_before_failing();
    throw;
  }
  next_sequence_ += experiment_.train.batch;
  result.lr = learning_rate(experiment_.train.schedule, experiment_.train.optimizer.lr, step_, experiment_.train.steps);
  result.verdict = guard_.judge(step_ + 1, result.gradients.loss, result.gradients.norm, has_checkpoint_);
  result.seconds = watch.seconds();
  return result;
}

void Trainer::apply(const StepResult& result) {
  last_step_skipped_ = result.verdict.action == Guard::Action::kSkip;
  if (last_step_skipped_) {
    if (progress_) progress_->pause();
    spdlog::warn("{}", result.verdict.reason);
    append(guard_line("skip", step_ + 1, result.verdict.reason));
    return;
  }
  const Stopwatch watch;
  learner_.update(result.gradients, result.lr);
  interval_seconds_ += watch.seconds() + result.seconds;
  ++interval_steps_;
}

namespace {

Checkpoint checkpoint_to_roll_back_to(const CheckpointStore& store, const std::string& reason) {
  std::vector<std::string> damaged;
  std::optional<Checkpoint> checkpoint;
  try {
    checkpoint = find_newest_whole(store.folder(), damaged);
  } catch (const UserError& error) {
    throw RunError("{}; it cannot be rolled back: {}", reason, error.what());
  }
  if (!checkpoint) throw RunError("{}; there is no checkpoint to go back to", reason);
  for (const std::string& text : damaged) spdlog::warn("{}", text);
  return std::move(*checkpoint);
}

}  // namespace

void Trainer::roll_back(const std::string& reason) {
  const PatientWait patience(ranks_);
  if (progress_) progress_->pause();
  std::optional<Checkpoint> checkpoint;
  if (files_) checkpoint = checkpoint_to_roll_back_to(files_->checkpoints, reason);
  // The data goes on behind what failed; the clock and the guard's counts go on too.
  const int64_t sequence = next_sequence_;
  const double seconds = seconds_before_;
  const Json guard = guard_.state();
  const Json then = load(checkpoint ? &*checkpoint : nullptr);
  next_sequence_ = sequence;
  seconds_before_ = seconds;
  const std::string place = "the guard's state";  // which load() has read already
  guard_.restore(guard, place);
  guard_.rewind(then.at("guard"), place);
  if (files_) {
    for (const auto& name : files_->checkpoints.set_aside_after(step_)) spdlog::warn("it was set aside as {}", name.string());
    files_->metrics.truncate_to(checkpoint->state.metrics);
  }
  append(guard_line("roll_back", step_, reason));
  spdlog::warn("{}: back to step {}", reason, step_);
  // What is on disk for this step does not know of the roll-back: a run killed now would forget it, and could roll back
  // for ever.
  saved_step_ = -1;
  save();
}

Json Trainer::load(const Checkpoint* checkpoint, OptimizerState optimizer) {
  const HostState state = transfer_.room();
  if (checkpoint) load_checkpoint(*checkpoint, state.model, state.optimizer, optimizer);
  transfer_.distribute(state);
  Json then;
  if (checkpoint) {
    then = {{"step", checkpoint->state.step},
            {"trainer", checkpoint->state.trainer},
            {"place", checkpoint->path.string() + "/state.json, trainer"}};
  }
  if (checkpoint && optimizer == OptimizerState::kFresh) then["trainer"]["updates"] = 0;
  then = Json::parse(ranks_.broadcast_text(then.dump(-1, ' ', false, Json::error_handler_t::replace)));
  step_ = then.at("step");
  const JsonReader trainer(then.at("trainer"), then.at("place").get<std::string>());
  learner_.optimizer().set_updates(trainer.integer("updates", 0));
  next_sequence_ = trainer.integer("next_sequence", 0);
  seconds_before_ = trainer.number("seconds");
  guard_.restore(trainer.value("guard"), then.at("place").get<std::string>() + ".guard");
  measured_ = trainer.has("measured") ? int(std::min<int64_t>(trainer.integer("measured", 0), kAllMeasured)) : kAllMeasured;
  return then.at("trainer");
}

void Trainer::after_step(const StepResult& result) {
  if (files_) files_->folder.check_still_ours();
  if (progress_)
    progress_->update(step_, result.gradients.loss, result.lr, double(learner_.tokens()) / seconds_per_step(result));
  if (due(experiment_.log.every) || step_ == experiment_.train.steps) log_step(result);
  measured_ = 0;
  measure();
  if (files_) files_->metrics.flush();
  // Not among bad steps: it may be the weights that are to blame.
  if (due(experiment_.log.checkpoint_every) && result.verdict.action == Guard::Action::kApply) save();
}

double Trainer::seconds_per_step(const StepResult& result) const {
  return interval_steps_ > 0 ? interval_seconds_ / double(interval_steps_) : result.seconds;
}

void Trainer::log_step(const StepResult& result) {
  const int64_t tokens = learner_.tokens();
  const double seconds = seconds_per_step(result);
  append({{"kind", "train"},
          {"step", step_},
          {"loss", result.gradients.loss},
          {"lr", result.lr},
          {"grad_norm", result.gradients.norm},
          {"tokens", step_ * tokens},
          {"tokens_per_second", double(tokens) / seconds},
          {"step_ms", 1e3 * seconds}});
  interval_seconds_ = 0;
  interval_steps_ = 0;
}

void Trainer::note_unused_vocabulary() const {
  const int64_t used = data_.train->vocab_size_needed(), all = experiment_.model.vocab_size;
  if (all - used <= used / 4 + 128) return;  // what is common for round numbers, or too rare to be seen at once
  spdlog::warn("model.vocab_size is {}, but the training data have no token above {}: the rest only takes time and memory", all,
               used - 1);
}

void Trainer::evaluate() {
  const int64_t there = data_.held_out->sequences_per_epoch(), wanted = experiment_.log.eval_batch;
  const int64_t sequences = there > 0 ? std::min(there, wanted) : wanted;
  const double loss = learner_.evaluate(*data_.held_out, sequences);
  if (!files_) return;
  Json line{{"kind", "eval"}, {"step", step_}, {"loss", loss}, {"perplexity", std::exp(loss)}};
  if (!eval_bytes_) eval_bytes_ = data_.held_out->target_bytes(0, sequences);
  if (*eval_bytes_ > 0) {
    const double tokens_per_byte = double(sequences * experiment_.model.context) / double(*eval_bytes_);
    line["bits_per_byte"] = loss * tokens_per_byte / std::numbers::ln2;
  }
  append(line);
  outcome_ = fmt::format("; held-out loss {:.4f}", loss);
  if (progress_) progress_->pause();
  const std::string part = sequences < there ? fmt::format(" (of {} of {} windows)", sequences, there) : "";
  spdlog::info("step {}: held-out loss {:.4f}, perplexity {:.2f}{}", step_, loss, std::exp(loss), part);
}

void Trainer::probe() {
  if (prober_) {
    for (const Json& line : prober_->run().lines(step_)) {
      append(line);
      if (line["kind"] == "risk") outcome_ = risks_text(line);
    }
    files_->metrics.flush();
  }
  wait_for_root();
}

// Between steps nobody needs the gradients that it overwrites. Curves and maps are stored of the last step only.
void Trainer::analyze() {
  if (analyzer_) {
    const Analysis analysis = analyzer_->run(step_);
    for (const Json& line : analysis.lines()) append(line);
    files_->metrics.flush();
    files_->folder.check_still_ours();
    if (step_ == experiment_.train.steps) save_analysis(analysis, files_->folder.path());
  }
  wait_for_root();
}

void Trainer::save_attention_map() {
  if (experiment_.log.map_positions == 0) return;
  if (prober_) {
    files_->folder.check_still_ours();
    const std::filesystem::path folder = files_->folder.attention_folder();
    create_folders(folder);
    write_file_atomic(folder / fmt::format("step_{:08}.json", step_),
                      prober_->attention_map(step_, experiment_.log.map_positions).dump() + "\n");
  }
  wait_for_root();
}

// ---- what is stored -------------------------------------------------------------------------------------------------

// A roll-back must find weights that it can go on from, and the guard has seen the loss of the weights before the last
// update only: hence is_sound().
bool Trainer::save() {
  if (!learner_.is_sound()) {
    if (progress_) progress_->pause();
    spdlog::warn("step {} is not saved: its weights give a loss that is not finite", step_);
    return false;
  }
  const HostState tensors = transfer_.collect();
  if (files_) write_checkpoint(tensors);
  wait_for_root();
  saved_step_ = step_;
  has_checkpoint_ = true;
  return true;
}

void Trainer::write_checkpoint(const HostState& tensors) {
  files_->folder.check_still_ours();
  CheckpointState state;
  state.step = step_;
  state.metrics = files_->metrics.sync();
  state.config = config_;
  state.trainer = {{"updates", learner_.optimizer().updates()},
                   {"next_sequence", next_sequence_},
                   {"seconds", seconds_before_ + watch_.seconds()},
                   {"data", data_identity_},
                   {"held_out", held_out_identity_},
                   {"guard", guard_.state()}};
  if (measured_ < kAllMeasured) state.trainer["measured"] = measured_;
  files_->checkpoints.save(std::move(state), tensors.model, tensors.optimizer);
}

// The error that is on its way says what happened; on a full disk there may be no room for more.
void Trainer::note_failure() noexcept {
  try {
    if (files_) files_->metrics.flush();
    write_info("failed");
  } catch (const std::exception&) {
  }
}

void Trainer::write_info(const char* status) {
  if (!files_) return;
  files_->folder.check_still_ours();
  const Json info = {{"parameters", learner_.model().params().count()},
                     {"device", backend_.describe()},
                     {"ranks", ranks_.size()},
                     {"threads", omp_get_max_threads()},
                     {"precision", experiment_.train.precision},
                     {"version", build_info().version},
                     {"commit", build_info().commit},
                     {"data", data_.train->describe()},
                     {"tokenizer", data_.train->tokenizer().name.empty() ? Json() : Json(data_.train->tokenizer().text())},
                     {"started", started_text_},
                     {"seconds", seconds_before_ + watch_.seconds()},
                     {"planned_bytes", planned_bytes()},
                     {"steps_done", step_},
                     {"status", status}};
  write_file_atomic(files_->folder.info_file(), info.dump(2) + "\n");
}

size_t Trainer::planned_bytes() const {
  return learner_.bytes() + (prober_ ? prober_->bytes() : 0);
}

std::string Trainer::memory_table() const {
  const auto row = [](const std::string& what, size_t bytes) {
    return fmt::format("  {:<34} {:>10.1f} MB\n", what, double(bytes) / 1e6);
  };
  const Transformer& model = learner_.model();
  std::string out = fmt::format("memory plan ({} parameters)\n", model.params().count());
  const std::string share = learner_.is_sharded() ? fmt::format(", 1 of {} shares", ranks_.size()) : "";
  const bool gradients_apart = learner_.gradient_bytes() > 0;
  out += row(gradients_apart ? "parameters" : "parameters and gradients", model.params().bytes());
  if (gradients_apart) out += row("gradients" + share, learner_.gradient_bytes());
  out += row("optimizer state" + share, learner_.optimizer().bytes());
  out += row("buffers of a step", model.arena_bytes());
  if (prober_) out += row("probes", prober_->bytes());
  out += row("in all", planned_bytes());
  std::map<std::string, size_t> kinds;
  for (const MemoryPlan::Buffer& buffer : model.plan().buffers()) kinds[buffer.kind] += buffer.bytes;
  out += "the buffers by kind; those that are never needed at the same time share memory\n";
  for (const auto& [kind, bytes] : kinds) out += row(kind, bytes);
  return out;
}

}  // namespace sluice
