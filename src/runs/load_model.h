// A trained model, from the folder that the user names: what `analyze`, `eval`, `sample`, `quantize` and `export` begin
// with.
//
// The config is the one stored in the checkpoint; weights are read by name, after every file of the checkpoint was
// verified.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "experiment/experiment.h"
#include "model/transformer.h"
#include "runs/checkpoint.h"

namespace sluice {

struct LoadModelOptions {
  int64_t max_batch = 0;              // sequences of one pass, of the model's context; 0: about 8192 tokens
  bool training = false;              // with gradients
  std::string batch_key = "--batch";  // the option that max_batch comes from, for messages
  std::optional<DType> act = {};      // activations' type; absent: as it was trained (train.precision)
};

struct LoadedModel {
  std::filesystem::path checkpoint;  // the folder that was read
  int64_t step = 0;
  Experiment experiment;  // the stored config, resolved
  std::unique_ptr<Transformer> model;
  std::vector<std::string> damaged;  // a sentence for each newer checkpoint that was passed over because it is damaged
};

// The config of a checkpoint. UserError where this version does not know one of its keys or values.
Experiment stored_experiment(const Checkpoint& checkpoint);

// The run's folder that a checkpoint lies in. UserError, with --save and --json named, if it lies in none.
std::filesystem::path run_of(const std::filesystem::path& checkpoint);

// `path` is a run's folder (its newest whole checkpoint) or a checkpoint's. The backend must outlive the model.
// UserError: no checkpoint there, a damaged one, weights that do not fit the config. RunError: weights that are NaN or
// infinite.
LoadedModel load_model(const std::filesystem::path& path, Backend& backend, const LoadModelOptions& options = {});

// UserError where the model's tokens see both sides of themselves (model.causal), so that none predicts the next;
// `command` is what needs that.
void require_causal(const LoadedModel& loaded, const char* command);

}  // namespace sluice
