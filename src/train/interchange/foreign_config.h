// The architectures of the transformers library that a model can be written as and read from, and their config.json.
//
//   gpt2     learned positions, LayerNorm, GELU (tanh), biases, softmax
//   llama    RoPE, RMSNorm, SwiGLU, shared key/value heads (arXiv 2302.13971); read from Mistral's folders as well
//   qwen3    that with QK-norm (arXiv 2505.09388)
//   sluice   every model of this program, by the Python file that the export writes beside the weights
#pragma once

#include <cstdint>
#include <string>

#include "base/config.h"
#include "data/tokenizer.h"
#include "model/config.h"

namespace sluice {

enum class Architecture { kGpt2, kLlama, kQwen3, kSluice };

const char* name_of(Architecture architecture);  // "gpt2"

// The one that transformers has itself and that computes what the model does, else kSluice.
Architecture native_architecture(const ModelConfig& model);

Json model_group(ModelConfig model);  // as in a resolved config

// config.json. `stored_type` is the weights' type as PyTorch names it: "float32"; without a tokenizer
// the tokens that begin and end a text are null.
Json exported_config(Architecture architecture, const ModelConfig& model, const std::string& stored_type,
                     const Tokenizer* tokenizer, int64_t first_token);

struct ForeignModel {
  Architecture architecture = Architecture::kSluice;
  ModelConfig model;
  int64_t positions = 0;     // that the folder's model has
  int64_t first_token = -1;  // that opened every window in training (data.first_token), as Sluice's exports tell
};

// Reads a config.json; `file` is its name in messages. `context` above 0 takes the place of the model's own, and may be
// shorter only where positions are learned. UserError names the field that Sluice cannot follow.
ForeignModel read_foreign_config(const Json& config, const std::string& file, int64_t context);

}  // namespace sluice
