// What rank 0 alone has of a run while it trains: the folder's files, the clock, the line of progress. The other ranks
// have a session in which there is nothing, and what they ask of it does nothing.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/stopwatch.h"
#include "experiment/experiment.h"
#include "measure/figures/analysis.h"
#include "runs/checkpoint.h"
#include "runs/metrics_log.h"
#include "runs/run_folder.h"
#include "runs/trainer_state.h"
#include "train/progress.h"
#include "train/state_transfer.h"

namespace sluice {

class RunSession {
 public:
  // `folder` is null where there is nothing; it must outlive the session, as must the experiment, whose dump is
  // `config`.
  RunSession(const RunFolder* folder, const Experiment& experiment, Json config);

  bool has_folder() const { return files_.has_value(); }
  std::string path() const { return files_->folder.path().string(); }
  // RunError if the folder has become another run's; to be called before anything is written that replaces a file.
  void check_still_ours() const;

  // ---- where the run begins
  // The checkpoint that `resume` means, nullopt for step 0. UserError if it is of another model, another optimizer or
  // other data than `now` says.
  std::optional<ResumePoint> find_resume_point(const ResumeOption& resume, const TrainerState& now);
  void confirm() const;                       // nothing was found that speaks against the folder
  void go_on_from(const ResumePoint& point);  // drops, sets aside or cuts what is newer
  void start_anew();
  // ---- where it goes back to
  Checkpoint find_good_checkpoint(const std::string& reason) const;  // RunError, with the reason, if there is none
  void go_back_to(const Checkpoint& checkpoint);

  // ---- what is written
  void append(const Json& line);  // of metrics.jsonl
  void flush();                   // these lines
  void save(int64_t step, const TrainerState& state, const HostState& tensors);
  void write_info(const Json& info) const;
  void write_attention_map(int64_t step, const Json& map) const;
  void write_analysis(const Analysis& analysis) const;

  // ---- the clock
  void start_clock();
  void add_seconds(double before) { seconds_before_ += before; }  // of earlier starts of this run
  double seconds() const { return seconds_before_ + watch_.seconds(); }
  const std::string& started() const { return started_; }  // "2026-01-31T12:00:00Z"

  // ---- the line of progress
  void begin_progress();
  void show_progress(int64_t step, double loss, double lr, double tokens_per_second);
  void pause_progress();  // something else is to be printed
  void end_progress() { progress_.reset(); }

 private:
  struct Files {
    Files(const RunFolder& folder, const LogConfig& log)
        : folder(folder), metrics(folder.metrics_file()), checkpoints(folder.checkpoints_folder(), log.keep) {}
    const RunFolder& folder;
    MetricsLog metrics;
    CheckpointStore checkpoints;
  };

  void check_optimizer(const ResumePoint& point) const;
  void tidy_checkpoints(const ResumePoint& point);

  const Experiment& experiment_;
  const Json config_;
  std::optional<Files> files_;
  std::optional<Progress> progress_;
  double seconds_before_ = 0;
  Stopwatch watch_;
  std::string started_;
};

}  // namespace sluice
