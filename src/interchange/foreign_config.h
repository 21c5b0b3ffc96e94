// The architectures of the transformers library that a model can be written as and read from, and their config.json.
//
//   gpt2     learned positions, LayerNorm, GELU (tanh), biases, softmax
//   llama    RoPE, RMSNorm, SwiGLU, shared key/value heads (arXiv 2302.13971); read from Mistral's folders as well
//   qwen2    that with biases of queries, keys and values (arXiv 2412.15115)
//   qwen3    that with QK-norm (arXiv 2505.09388)
//   opt      as gpt2 with other names, and two rows before the learned positions (arXiv 2205.01068); only read
//   gpt_neox LayerNorm, RoPE of a part of each head, parallel residual (arXiv 2204.06745; Pythia 2304.01373); only read
//   bert     post-norm, both sides, the head of a masked language model (arXiv 1810.04805)
//   sluice   every model of this program, by the Python file that the export writes beside the weights
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/config/config.h"
#include "data/tokenizers/tokenizer.h"
#include "model/config/config.h"

namespace sluice {

enum class Architecture { kGpt2, kLlama, kQwen2, kQwen3, kOpt, kGptNeoX, kBert, kSluice };

const char* name_of(Architecture architecture);  // "gpt2"

// The one that transformers has itself and that computes what the model does, else kSluice.
Architecture native_architecture(const ModelConfig& model);

// The library's class that loads an export of the model: "AutoModelForCausalLM".
const char* library_class(const ModelConfig& model);

Json model_group(ModelConfig model);  // as in a resolved config

// What a run had beside its text's tokens; -1: nothing.
struct TrainedTokens {
  int64_t first = -1;  // that opened every window (data.first_token)
  int64_t mask = -1;   // that stood for masked ones (data.masking.token)
};

// config.json. `stored_type` is the weights' type as PyTorch names it: "float32"; without a tokenizer
// the tokens that begin and end a text are null.
Json exported_config(Architecture architecture, const ModelConfig& model, const std::string& stored_type,
                     const Tokenizer* tokenizer, const TrainedTokens& trained);

// Of model.dropout what does not hold where a folder with that config.json is trained on, as a sentence; empty: all
// does.
std::string dropout_left_out(Architecture architecture, const ModelConfig& model, const Json& config);

struct ForeignModel {
  Architecture architecture = Architecture::kSluice;
  ModelConfig model;
  int64_t positions = 0;                     // that the folder's model has
  TrainedTokens trained;                     // as Sluice's exports tell
  std::vector<std::string> ignored;          // "key = value" of the fields that were to be ignored and are there
  int64_t segments = 1;                      // rows of BERT's table of them, of which the first is read
  std::vector<std::string> ignored_tensors;  // what else was to be ignored: tensors, if anything
};

// What a file that is no strict JSON leaves in doubt: its nulls may stand for NaN or an infinity.
enum class Nulls { kAreNulls, kAreDoubtful };

// Reads a config.json; `file` is its name in messages. `context` above 0 takes the place of the model's own, and may be
// shorter only where positions are learned. Fields in `ignore` ("rope_scaling", "rope_parameters.factor") are as if
// they were not there. UserError names the field that Sluice cannot follow, or does not know.
ForeignModel read_foreign_config(const Json& config, const std::string& file, int64_t context,
                                 const std::vector<std::string>& ignore = {}, Nulls nulls = Nulls::kAreNulls);

// The same of the config.json in a folder.
ForeignModel read_foreign_model(const std::filesystem::path& folder, int64_t context,
                                const std::vector<std::string>& ignore = {});

}  // namespace sluice
