// The step loop, and all that hangs on it: logging, evaluation, probes, checkpoints, the guard.
//
// All ranks run the same loop and decide the same from the same sums. Rank 0 alone has the run's folder: it logs,
// probes, writes and reads; the others wait for it meanwhile.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/stopwatch.h"
#include "data/sources/source.h"
#include "experiment/experiment.h"
#include "experiment/guard.h"
#include "measure/analyzer.h"
#include "measure/probe.h"
#include "runs/checkpoint.h"
#include "runs/metrics_log.h"
#include "runs/run_folder.h"
#include "train/learner.h"
#include "train/progress.h"
#include "train/state_transfer.h"

namespace sluice {

// What a run reads.
struct TrainingData {
  std::unique_ptr<DataSource> train, held_out;  // held_out is null where nothing asks for it
  std::unique_ptr<DataSource> short_held_out;   // in the sequences of an analysis, or null

  // To be called before the run's folder is made: wrong data then leaves nothing behind. UserError where data and model
  // do not fit together.
  static TrainingData open(const Experiment& experiment);
};

class Trainer {
 public:
  // Allocates everything the run needs. The folder (rank 0's; elsewhere null), the backend and the ranks must outlive
  // it.
  Trainer(Backend& backend, const Experiment& experiment, TrainingData data, const RunFolder* folder,
          Communicator& ranks = one_rank());

  // Trains to the last step, from the checkpoint that `resume` means or from the start. Returns 0, or the signal that
  // stopped it after a checkpoint. UserError if that checkpoint is of another model or of other data; RunError when the
  // guard gives up, or the weights to save are spoilt.
  int run(const ResumeOption& resume);

  // What was allocated here, by purpose: a table for a person.
  std::string memory_table() const;
  size_t planned_bytes() const;

 private:
  struct StepResult {
    Gradients gradients;
    double lr = 0, seconds = 0;
    Guard::Verdict verdict;
  };

  struct Files {  // rank 0's
    explicit Files(const RunFolder& folder, const LogConfig& log)
        : folder(folder), metrics(folder.metrics_file()), checkpoints(folder.checkpoints_folder(), log.keep) {}
    const RunFolder& folder;
    MetricsLog metrics;
    CheckpointStore checkpoints;
  };

  void start(const ResumeOption& resume);
  std::optional<ResumePoint> find_resume_point(const ResumeOption& resume);
  static void check_same_data(const ResumePoint& point, const char* key, const char* use, const std::string& identity);
  void check_optimizer(const ResumePoint& point) const;
  void resume_from(const ResumePoint& point);
  void tidy_checkpoints(const ResumePoint& point);
  void start_anew();
  int agreed_stop();
  void train_steps();
  int finish();
  StepResult train_step();
  void apply(const StepResult& result);
  void roll_back(const std::string& reason);
  // The checkpoint is rank 0's; returns the trainer's state of then.
  Json load(const Checkpoint* checkpoint, OptimizerState optimizer = OptimizerState::kStored);
  void after_step(const StepResult& result);
  void measure();
  void measure_rest();
  double seconds_per_step(const StepResult& result) const;  // since the last train line
  void log_step(const StepResult& result);
  void note_unused_vocabulary() const;
  void evaluate();
  void probe();
  void analyze();
  void save_attention_map();
  bool save();                   // false: the weights are spoilt and were not saved
  void write_checkpoint(const HostState& tensors);
  void wait_for_root();          // while it alone does something, see PatientWait
  void append(const Json& line);
  void write_info(const char* status);
  void save_before_failing() noexcept;
  void note_failure() noexcept;
  bool due(int64_t every) const { return every > 0 && step_ % every == 0; }
  bool due_or_last(int64_t every) const;

  Backend& backend_;
  Experiment experiment_;
  Communicator& ranks_;
  const Json config_;
  const TrainingData data_;
  const std::string data_identity_, held_out_identity_;
  std::string outcome_;  // the last figures on held-out data, for the end's line
  Learner learner_;
  const StateTransfer transfer_;
  std::optional<Prober> prober_;      // rank 0's
  std::optional<Analyzer> analyzer_;  // rank 0's
  Guard guard_;
  std::optional<Files> files_;        // rank 0's
  std::optional<Progress> progress_;  // rank 0's

  std::optional<int64_t> eval_bytes_;  // of text in an evaluation, once one has been; 0: not known

  int64_t step_ = 0;             // steps done
  int64_t next_sequence_ = 0;    // position in the training data; runs on through skips and roll-backs
  static constexpr int kAllMeasured = 3;
  int measured_ = kAllMeasured;  // measurements of this step that are done
  int64_t saved_step_ = -1;
  bool has_checkpoint_ = false;  // of this run, to roll back to
  bool last_step_skipped_ = false;
  int stop_ = 0;                 // the signal that a rank was asked to stop by
  double seconds_before_ = 0;    // of earlier runs
  double interval_seconds_ = 0;  // step time since the last train line
  int64_t interval_steps_ = 0;
  Stopwatch watch_;  // since run() began
  std::string started_text_;
};

}  // namespace sluice
