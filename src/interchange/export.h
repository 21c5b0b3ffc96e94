// `sluice export`: a checkpoint as a folder that the transformers library loads:
//   config.json, generation_config.json, model.safetensors, the tokenizer's files, README.md (a model card), and for
//   models that it does not have itself modeling_sluice.py.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/tokenizers/tokenizer.h"
#include "interchange/foreign_config.h"
#include "runs/checkpoint.h"

namespace sluice {

struct ExportOptions {
  std::string type = "float32";  // of the weights: float32, bfloat16, float16
  TrainedTokens trained = {};    // of the run, for config.json and the tokenizer
  int64_t logits = 0;            // also write logits.safetensors with this many tokens
  const Tokenizer* tokenizer = nullptr;
  std::string tokenizer_path = {};  // as load_tokenizer got it
};

struct ExportResult {
  Architecture architecture = Architecture::kSluice;
  int64_t parameters = 0;
  uint64_t bytes = 0;              // of the weights' file
  std::vector<std::string> notes;  // sentences for the user: what is not in the folder, or does not hold there
  bool has_tokenizer = false;      // AutoTokenizer can load one
};

// Writes the folder, which must not be there or be empty; it is whole or absent. One tensor at a time is in memory.
// UserError: the checkpoint's weights do not fit its config; a weight is beyond what the type can hold.
ExportResult export_checkpoint(const Checkpoint& checkpoint, const ModelConfig& model,
                               const std::filesystem::path& folder, const ExportOptions& options);

}  // namespace sluice
