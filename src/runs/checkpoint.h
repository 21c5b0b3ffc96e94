// Checkpoints: checkpoints/step_00001000/{model.safetensors, optimizer.safetensors, state.json}.
//
// A checkpoint is written aside (base/files/aside.h), each file synced, state.json last; it holds the size and XXH3 of
// the others and, as its last key, of itself. Then all is read back and compared, the folder renamed, the parent
// synced, and checkpoints/latest (the folder's name) replaced. Whatever goes wrong on the way, older checkpoints are
// untouched.
//
// Damage is a file that is missing, of another size, of another checksum or no state.json. Such a checkpoint is passed
// over, and set aside under another name (step_00001000.damaged) when the run goes on without it. One that merely
// cannot be read now (permissions, an input/output error, a newer format) may be whole: it is an error, never passed
// over.
//
// state.json: {"format":1, "step", "model_fingerprint", "metrics":{"bytes","lines"}, "config":{...}, "trainer":{...},
//              "files":{"model.safetensors":{"bytes","xxh3"},...}, "xxh3"}
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/config/config.h"
#include "runs/metrics_log.h"
#include "runs/tensors/safetensors.h"

namespace sluice {

struct CheckpointState {
  int64_t step = 0;               // steps done: training goes on with this one
  MetricsPosition metrics;        // of metrics.jsonl when it was taken; call MetricsLog::sync() first
  Json config = Json::object();   // resolved
  Json trainer = Json::object();  // whatever else the trainer needs to go on: guard, counters, clocks
  std::string model_fingerprint;  // of the model's names, shapes and types; set by save()
};

struct Checkpoint {
  std::filesystem::path path;  // .../step_00001000
  CheckpointState state;
};

// --resume auto|never|DIR
struct ResumeOption {
  enum class Mode { kAuto, kNever, kFrom };
  Mode mode = Mode::kAuto;
  std::filesystem::path from;    // kFrom: a run folder or a checkpoint folder
  bool fresh_optimizer = false;  // kFrom, another run: its weights, and an optimizer that begins

  static ResumeOption parse(const std::string& text);  // UserError where DIR does not exist
};

// The steps of the checkpoints below `folder` ("runs/a/checkpoints"), increasing; damaged ones too, unfinished ones
// not. Empty if the folder is missing.
std::vector<int64_t> list_checkpoints(const std::filesystem::path& folder);

std::string model_fingerprint(std::span<const NamedTensor> model);  // 16 hexadecimal digits

// Reads state.json and verifies sizes and checksums of all files. Throws CheckpointDamaged: which file, what it should
// be, what it is. UserError or RunError where one cannot be read now, or is of a newer format.
Checkpoint verify_checkpoint(const std::filesystem::path& path);

// The config in the newest state.json that is whole, whatever the tensors beside it are; nullopt if there is none.
std::optional<Checkpoint> newest_state(const std::filesystem::path& folder);

// The newest whole checkpoint of the folder, nullopt if there is none at all. For each damaged one on the way a
// sentence is added to `damaged`. UserError if all are damaged.
std::optional<Checkpoint> find_newest_whole(const std::filesystem::path& folder, std::vector<std::string>& damaged);

// The checkpoint that the user means with a run folder (its newest whole one) or a checkpoint folder (that one, which
// must be whole). UserError if there is none.
Checkpoint open_checkpoint(const std::filesystem::path& path, std::vector<std::string>& damaged);

// Fills the tensors from a checkpoint that was verified. UserError names the tensor that is missing or has another
// shape: then nothing has been changed. For inference, load_model leaves the optimizer's file alone.
// A checkpoint without optimizer state (of an import) leaves an optimizer that begins: all zeros. So does kFresh.
enum class OptimizerState { kStored, kFresh };
bool has_optimizer_state(const Checkpoint& checkpoint);
SafetensorsFile model_file(const Checkpoint& checkpoint);
void load_model(const Checkpoint& checkpoint, std::span<const NamedTensor> model);
void load_checkpoint(const Checkpoint& checkpoint, std::span<const NamedTensor> model,
                     std::span<const NamedTensor> optimizer, OptimizerState wanted = OptimizerState::kStored);

struct ResumePoint {
  Checkpoint checkpoint;
  bool own = true;     // of this run: cut metrics.jsonl to state.metrics. Otherwise this run's metrics start empty
  bool named = false;  // that checkpoint itself was asked for: what is newer is given up
  OptimizerState optimizer = OptimizerState::kStored;
};

// The checkpoints of one run; one process writes at a time (RunFolder's lock).
class CheckpointStore {
 public:
  // Creates the folder; removes what a killed save left behind, and nothing else, and gives a checkpoint that it was
  // about to replace its name back. keep: how many stay, the newest; 0: all.
  CheckpointStore(std::filesystem::path folder, int64_t keep);

  const std::filesystem::path& folder() const { return folder_; }

  // Stores a checkpoint and returns its path. Optimizer tensors may be none. A checkpoint of that step is replaced;
  // then those beyond `keep` are removed. Throws RunError (what failed and why, bytes needed and free): the older ones
  // stay.
  std::filesystem::path save(CheckpointState state, std::span<const NamedTensor> model,
                             std::span<const NamedTensor> optimizer);

  // Where training starts: nullopt for step 0. Changes nothing. UserError: no checkpoint in `from`; `from` is of
  // another run while this one has checkpoints of its own; all are damaged. See find_newest_whole for `damaged`.
  std::optional<ResumePoint> resume_point(const ResumeOption& option, std::vector<std::string>& damaged);
  // Once a run goes on from the checkpoint of `step`. Newer ones that were asked to be given up are removed, the newest
  // first, so that a kill leaves no gap; else they were found damaged, and are set aside: the new names are returned.
  void drop_after(int64_t step);
  std::vector<std::filesystem::path> set_aside_after(int64_t step);
  // Makes `latest` and `keep` true, which a kill may have left one behind.
  void repair(int64_t newest);

 private:
  std::filesystem::path path_of(int64_t step) const;
  void write_files(const std::filesystem::path& target, CheckpointState& state, std::span<const NamedTensor> model,
                   std::span<const NamedTensor> optimizer) const;
  std::vector<int64_t> steps_after(int64_t step) const;  // increasing
  void put_back_formers() const;
  void set_latest(int64_t step) const;
  void remove(int64_t step) const;
  void remove_old(int64_t newest) const;

  std::filesystem::path folder_;
  int64_t keep_;
};

}  // namespace sluice
