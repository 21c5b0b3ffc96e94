// Log-likelihoods of tokens under a model, for texts of any lengths, in batches.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/transformer.h"

namespace sluice {

// tokens [first, size) are scored, each given all before it; 1 <= first < size <= model.context + 1.
struct ScoredTokens {
  std::vector<int32_t> tokens;
  size_t first = 1;
};

// The sum of the log-likelihoods of each, in nats. It does not depend on what else is in the list but for rounding.
std::vector<double> log_likelihoods(Transformer& model, std::span<const ScoredTokens> texts);

}  // namespace sluice
