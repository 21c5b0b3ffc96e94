// Attention weights of a pass that instruments are shown.
#pragma once

#include <memory>

#include "model/transformer.h"

namespace sluice {

// Of a layer with heads; null where its results are no weighted sums of values. They are read from the pass as it ran:
// statistics of rows are of all its sequences, of which the batch's are the first.
inline std::unique_ptr<HostWeights> shown_weights(const Transformer& model, const Pass& shown, int64_t layer) {
  const AttentionLayer& attention = model.blocks()[size_t(layer)].attention();
  const WeightsView* view = attention.weights();
  if (!view) return nullptr;
  const Pass all = model.as_it_ran(shown);
  return view->read(all, attention.heads(all));
}

}  // namespace sluice
