// runs/NAME: created, locked against a second process, and checked to hold this experiment and no other.
//
// Two configs are the same experiment when they differ only in what may change between a run and its continuation:
// name, device, log.*, train.steps, train.micro_batch, and how memory and ranks are used (train.recompute, zero,
// bucket_mb, rank_timeout).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/config.h"
#include "base/files.h"
#include "train/checkpoint.h"

namespace sluice {

struct ConfigDifference {
  std::string key;           // "model.attention.score.type"
  Json stored, current;      // null where the key is missing
};

// The first key, in the order of `current`, that makes two resolved configs different experiments.
std::optional<ConfigDifference> experiment_difference(const Json& stored, const Json& current);

// UserError naming the first key of "model" in which the config of the checkpoint at `where` differs. Tensors may fit
// by name and shape, and yet mean another thing.
void check_same_model(const Json& stored, const Json& current, const std::string& where);

class RunFolder {
 public:
  // Opens `path` for training with the resolved `config`, and writes config.json: at once, or where the config names other
  // files of data than the one that is there, in confirm_data().
  //  - mode kNever: whatever of a run is there moves to path/old1 (old2, ...); see moved_to().
  //  - otherwise a folder that holds another experiment is refused.
  // UserError: it is a file, cannot be created or written, is locked by another process, holds another experiment.
  RunFolder(const std::filesystem::path& path, const Json& config, const ResumeOption& resume);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path config_file() const { return path_ / "config.json"; }
  std::filesystem::path info_file() const { return path_ / "info.json"; }
  std::filesystem::path metrics_file() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path log_file() const { return path_ / "log.txt"; }
  std::filesystem::path attention_folder() const { return path_ / "attention"; }
  std::filesystem::path analysis_folder() const { return path_ / "analysis"; }
  std::filesystem::path checkpoints_folder() const { return path_ / "checkpoints"; }

  // The data are those that the run was trained on, wherever they lie now.
  void confirm_data() const;
  // Removes the folder if it was made by this object and nothing has been trained in it: a start that was refused.
  void discard_if_new() const;

  // Where mode kNever has put what was there.
  const std::optional<std::filesystem::path>& moved_to() const { return moved_to_; }
  // What the run has, for a person: "config.json, metrics.jsonl, checkpoints at steps 1000, 2000"; "nothing yet".
  std::string contents() const;

 private:
  void lock();
  void move_aside();
  void check_experiment(const Json& config) const;
  bool has_results() const;
  bool names_other_files(const Json& config) const;

  std::filesystem::path path_;
  std::optional<File> lock_;
  std::optional<std::filesystem::path> moved_to_;
  bool made_ = false;  // the folder was not there before
  Json unconfirmed_;   // the config, until confirm_data(); or null
};

}  // namespace sluice
