// Which tensor of a transformers folder holds which part of which parameter. One table for export and import.
//
// GPT-2 stores linear weights as [in, out], ours are [out, in]; LLaMA has the rows of a fused weight as tensors of
// their own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/params.h"
#include "train/interchange/foreign_config.h"

namespace sluice {

// Rows [first_row, first_row + rows) of parameter `ours` are the tensor `theirs` of the folder.
struct TensorPart {
  std::string theirs, ours;
  int64_t first_row = 0, rows = 0;
  int64_t columns = 0;      // 0: a vector of `rows` elements
  bool transposed = false;  // stored as [columns, rows]
  Shape shape() const;      // of the stored tensor
};

// out [columns, rows] of in [rows, columns].
void transpose(const float* in, int64_t rows, int64_t columns, float* out);

// The parameters of a model, without memory for them.
std::vector<ParamSpec> parameters_of(const ModelConfig& model);

// All tensors of a folder, in its order; together they cover every parameter once.
std::vector<TensorPart> tensor_parts(Architecture architecture, const ModelConfig& model,
                                     const std::vector<ParamSpec>& parameters);

// The part of a tensor's name that only models with a head on top have: "transformer.", "model."; may be empty.
const char* name_prefix(Architecture architecture);
// Tensors that such folders may have and that hold no weights: masks, tables of frequencies, a head that is tied.
bool is_ignored(Architecture architecture, const ModelConfig& model, const std::string& name);

}  // namespace sluice
