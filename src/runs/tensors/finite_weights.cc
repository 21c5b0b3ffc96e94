// Weights that are not finite, counted and put into a sentence (finite_weights.h).
#include "runs/tensors/finite_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace sluice {

void FiniteWeights::add(const std::string& name, std::span<const float> weights) {
  const int64_t spoilt = std::count_if(weights.begin(), weights.end(), [](float w) { return !std::isfinite(w); });
  count_ += int64_t(weights.size());
  if (spoilt > 0 && spoilt_ == 0) first_ = name;
  spoilt_ += spoilt;
}

std::string FiniteWeights::sentence() const {
  return fmt::format("{} of {} weights {} NaN or infinite, the first of them in {}", spoilt_, count_,
                     spoilt_ == 1 ? "is" : "are", first_);
}

}  // namespace sluice
