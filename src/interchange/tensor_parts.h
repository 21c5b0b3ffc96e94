// Which tensor of a transformers folder holds which part of which parameter. One table for export and import.
//
// GPT-2 stores linear weights as [in, out], ours are [out, in]; LLaMA has the rows of a fused weight as tensors of
// their own; GPT-NeoX has those of each head's query, key and value together, with the features that turn in front;
// OPT's positions begin at the third row of their table; BERT's norms stand behind what they are of.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "interchange/foreign_config.h"
#include "model/module/params.h"

namespace sluice {

// Rows [first_row, first_row + rows) of parameter `ours` are the tensor `theirs` of the folder, or rows of it.
struct TensorPart {
  std::string theirs, ours;
  int64_t first_row = 0, rows = 0;
  int64_t columns = 0;       // 0: a vector of `rows` elements
  bool transposed = false;   // stored as [columns, rows]
  int64_t stored_first = 0;  // the first row in the stored tensor, and how many that has; not where it is transposed
  int64_t stored_rows = 0;   // 0: `rows`
  Shape shape() const;       // of the stored tensor
};

// out [columns, rows] of in [rows, columns].
void transpose(const float* in, int64_t rows, int64_t columns, float* out);

// What a checkpoint has of a model: its parameters, then the moving averages that it keeps beside them.
struct StoredModel {
  std::vector<ParamSpec> tensors;  // without memory
  int64_t parameters = 0;          // numbers that are trained
};
StoredModel stored_model(const ModelConfig& model);

// All tensors of a folder, in its order; together they cover every one of the model's once. `segments`: rows that
// BERT's table of them has.
std::vector<TensorPart> tensor_parts(Architecture architecture, const ModelConfig& model,
                                     const std::vector<ParamSpec>& tensors, int64_t segments = 1);

// The part of a tensor's name that only models with a head on top have: "transformer.", "model."; may be empty.
const char* name_prefix(Architecture architecture);
// The parameter that is the token embedding, and the name of the output head's weight in a folder.
constexpr const char* kEmbedding = "embedding.token.weight";
const char* head_name(Architecture architecture);
// Tensors that such folders may have and that hold no weights: masks, tables of frequencies.
bool is_ignored(Architecture architecture, const std::string& name);

}  // namespace sluice
