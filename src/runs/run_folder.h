// runs/NAME: created, locked against a second process, and checked to hold this experiment and no other.
//
// A folder is a run of ours if it has a resolved config.json beside a lock, an info.json or checkpoints, or a
// checkpoint alone. In any other that is not empty nothing is written, moved or removed.
//
// origin.json: {"resume", "checkpoint", "fresh_optimizer"}, of a run that began from another one's checkpoint. It is
// there before config.json, so that a start which was killed before its first checkpoint begins from there again.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/config/config.h"
#include "base/files/files.h"
#include "experiment/experiment_difference.h"
#include "runs/checkpoint.h"

namespace sluice {

// Whether the file is a config that this program has resolved and written.
bool is_run_config(const std::filesystem::path& file);

// The number of the process that trains in a run's folder, as its lock has it; nullopt if nobody does.
std::optional<std::string> training_process(const std::filesystem::path& run);

class RunFolder {
 public:
  // Opens `path` for training with the resolved `config`, and writes config.json: at once, or where there are
  // checkpoints that have not been looked at yet, in confirm().
  //  - mode kNever: whatever of a run is there moves to path/old1 (old2, ...); see moved_to(). A move that was broken
  //  off
  //    is finished first, in every mode.
  //  - otherwise a folder that holds another experiment is refused.
  // UserError: it is a file or no run's folder, cannot be created or written, is locked by another process, holds
  // another experiment.
  RunFolder(const std::filesystem::path& path, const Json& config, const ResumeOption& resume);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path config_file() const { return path_ / "config.json"; }
  std::filesystem::path info_file() const { return path_ / "info.json"; }
  std::filesystem::path metrics_file() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path log_file() const { return path_ / "log.txt"; }
  std::filesystem::path attention_folder() const { return path_ / "attention"; }
  std::filesystem::path analysis_folder() const { return path_ / "analysis"; }
  std::filesystem::path checkpoints_folder() const { return path_ / "checkpoints"; }

  // What `option` means in this folder: a run that began from another one, and has no checkpoint of its own yet, begins
  // from there again; one that has goes on from its own, also where its origin is named once more.
  ResumeOption resumed_as(const ResumeOption& option) const;
  // A start from another run's checkpoint, before anything comes of it.
  void note_origin(const ResumePoint& point) const;
  // The checkpoint to go on from is of this experiment and of these data, wherever they lie now.
  void confirm() const;
  // A start that was refused: takes back what this object has written, if nothing has been trained.
  void take_back() const;
  // RunError if the folder was removed, moved or made anew since it was locked: another run may have it now.
  void check_still_ours() const;

  // Where mode kNever has put what was there.
  const std::optional<std::filesystem::path>& moved_to() const { return moved_to_; }
  // What the run has, for a person: "config.json, metrics.jsonl, checkpoints at steps 1000, 2000"; "nothing yet".
  std::string contents() const;

 private:
  void check_is_run(bool never) const;
  void lock();
  void remove_leftovers_of_ours() const;
  void finish_move();
  void move_aside();
  void move_entries(const std::filesystem::path& to);
  void name_moved(const std::filesystem::path& from);
  void begin_from_other(const ResumeOption& resume);
  void check_experiment(const Json& config) const;
  void check_checkpoints_are_there() const;
  Json stored_config() const;
  bool has_checkpoints() const;
  bool has_results() const;
  std::filesystem::path origin_file() const { return path_ / "origin.json"; }

  std::filesystem::path path_;
  std::optional<File> lock_;
  std::optional<std::filesystem::path> moved_to_;
  bool made_ = false;          // the folder was not there before
  bool noted_origin_ = false;  // by this object
  std::string former_origin_;  // the text that was there before, if any
  Json unconfirmed_;           // the config, until confirm(); or null
};

}  // namespace sluice
