// The step loop, and what hangs on it: measurements, checkpoints, the guard.
//
// All ranks run the same loop and decide the same from the same sums. Rank 0 alone has the run's folder: it logs,
// probes, writes and reads; the others wait for it meanwhile.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "experiment/experiment.h"
#include "experiment/guard.h"
#include "runs/trainer_state.h"
#include "train/learner.h"
#include "train/measurements.h"
#include "train/run_info.h"
#include "train/run_session.h"
#include "train/state_transfer.h"
#include "train/training_data.h"

namespace sluice {

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
  std::string memory_table() const { return info().memory_table(); }
  size_t planned_bytes() const { return info().planned_bytes(); }

 private:
  struct StepResult {
    Gradients gradients;
    double lr = 0, seconds = 0;
    Guard::Verdict verdict;
  };
  // What is due after some steps.
  struct Hook {
    int64_t every;  // steps; 0: never
    bool at_end;    // after the last step too
    std::function<void()> action;
  };

  // ---- trainer.cc: the loop
  void train_steps();
  StepResult train_step();
  void apply(const StepResult& result);
  void after_step(const StepResult& result);
  void measure();
  bool is_due(int64_t every, bool at_end) const;
  void log_step(const StepResult& result);
  double seconds_per_step(const StepResult& result) const;  // since the last train line
  void roll_back(const std::string& reason);
  int agreed_stop();
  int finish();
  bool save();  // false: the weights are spoilt and were not saved
  void save_before_failing() noexcept;
  void note_failure() noexcept;
  void write_info(const char* status);
  RunInfo info() const { return {backend_, experiment_, data_, learner_, ranks_, measurements_.bytes()}; }

  // ---- trainer_start.cc: where it starts
  void start(const ResumeOption& resume);
  void start_anew();
  void resume_from(const ResumePoint& point);
  void measure_rest();
  // The checkpoint (rank 0's, elsewhere null) gives tensors, step and updates; the rest is returned for the caller to
  // take over as far as it holds.
  TrainerState load(const Checkpoint* checkpoint, OptimizerState optimizer = OptimizerState::kStored);
  TrainerState state() const;  // to be saved

  Backend& backend_;
  Experiment experiment_;
  Communicator& ranks_;
  const TrainingData data_;
  Learner learner_;
  const StateTransfer transfer_;
  Guard guard_;
  RunSession session_;
  Measurements measurements_;
  const std::array<Hook, TrainerState::kAllMeasured> hooks_;  // the measurements, of which state_.measured are done

  int64_t step_ = 0;    // steps done
  TrainerState state_;  // but for what optimizer, guard and session know
  int64_t saved_step_ = -1;
  bool has_checkpoint_ = false;  // of this run, to roll back to
  bool last_step_skipped_ = false;
  int stop_ = 0;                 // the signal that a rank was asked to stop by
  double interval_seconds_ = 0;  // step time since the last train line
  int64_t interval_steps_ = 0;
};

}  // namespace sluice
