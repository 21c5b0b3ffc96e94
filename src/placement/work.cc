// Documents of windows, and operations and bytes of a model (work.h).
#include "placement/work.h"

#include <algorithm>

#include "base/error.h"
#include "model/config/attention_parts.h"

namespace sluice {
namespace {

int64_t rounded_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// What the core is given where the output projection reads `sizes`.
HeadSizes sizes_of_core(const AttentionConfig& attention, HeadSizes sizes) {
  const std::vector<const StageOptions*> stages = attention.stages();
  for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) sizes = (*stage)->asks(sizes);
  return sizes;
}

void check_attends_to_all(const ModelConfig& model) {
  if (!model.causal)
    throw UserError("plan-ranks counts rows that attend to all rows before them, but model.causal is false");
  for (const AttentionConfig* attention : model.attention.kinds()) {
    if (attention->core != "tiles")
      throw UserError("plan-ranks counts pairs of queries and keys, but model.attention.core is {}", attention->core);
    if (const int64_t reach = attention->core_options().reach(); reach > 0)
      throw UserError("plan-ranks counts rows that attend to all rows before them, but model.attention.window is {}",
                      reach);
  }
  if (model.registers > 0)
    throw UserError("plan-ranks knows no rows but tokens, but model.registers is {}", model.registers);
}

}  // namespace

int64_t Rows::computed_pairs(int64_t tile) const {
  int64_t pairs = 0;
  for (int64_t first = begin; first < end; first += tile)
    pairs += tile * rounded_up(std::min<int64_t>(first + tile, end), tile);
  return pairs;
}

Pieces pieces_of(const DataSource& source, int64_t first, int64_t count) {
  Pieces pieces;
  std::vector<int32_t> starts(static_cast<size_t>(source.context()));
  for (int64_t window = first; window < first + count; ++window) {
    source.fill_document_starts(window, 1, starts.data());
    for (size_t i = 0, begin = 0; i < starts.size(); ++i) {
      if (i + 1 < starts.size() && starts[i + 1] == starts[begin]) continue;
      pieces.push_back(int32_t(i + 1 - begin));
      begin = i + 1;
    }
  }
  return pieces;
}

ModelWork work_of(const ModelConfig& model, int64_t bytes) {
  check_attends_to_all(model);
  const auto C = double(model.width), element = double(bytes);
  ModelWork work;
  double weights = C * double(model.vocab_size);  // of matrices that a token goes through
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const HeadSizes sizes = sizes_of_core(model.attention.of(layer), model.head_sizes());
    const auto H = double(sizes.H_q + sizes.H_q2), D_qk = double(sizes.D_qk), D_v = double(sizes.D_v);
    weights += C * double(sizes.projected_columns() + model.head_sizes().result_columns() + model.mlp_up_width() +
                          model.mlp_width);
    // Forward Q K^T and P V; backward Q K^T once more, dP, dV, dQ and dK.
    work.pair_operations += 2 * H * (4 * D_qk + 3 * D_v);
    work.query_bytes += H * D_qk * element;
    work.key_value_bytes += double(sizes.key_columns() + sizes.value_columns()) * element;
    work.result_bytes += H * (D_v * element + sizeof(float));
  }
  work.linear_operations = 6 * weights;
  return work;
}

}  // namespace sluice
