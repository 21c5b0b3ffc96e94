// `sluice import`: a folder of the transformers library as a run folder with a checkpoint of step 0.
#pragma once

#include <filesystem>

#include "experiment/experiment.h"
#include "interchange/foreign_config.h"
#include "runs/tensors/finite_weights.h"

namespace sluice {

struct ImportResult {
  Architecture architecture = Architecture::kSluice;
  int64_t parameters = 0;
  std::vector<std::string> ignored;  // tensors that were left out: they hold no weights, or were to be ignored
  std::string unwrapped;             // "module.a is read as a", where names have a wrapper's part in front
  FiniteWeights finite;
  bool has_tokenizer = false;  // its files are in out/tokenizer
};

// Reads the folder's weights and writes `out`, which must not be there or be empty: config.json, tokenizer/ with the
// folder's tokenizer files, and a checkpoint without optimizer state. `experiment` has the model of `foreign`. The
// weights are in memory once, in fp32. UserError names the tensor that is missing, too many, or has another shape than
// the folder's config says; then nothing is written. Weights
// that are NaN or infinite are written, and counted.
ImportResult import_folder(const std::filesystem::path& folder, const ForeignModel& foreign, Experiment experiment,
                           const std::filesystem::path& out);

}  // namespace sluice
