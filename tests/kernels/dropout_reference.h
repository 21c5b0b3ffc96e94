// Dropout the plain way: what one value is multiplied with, from Philox, one call a value. Nothing here calls
// kernels/formulas/dropout.h.
#pragma once

#include <cmath>

#include "base/philox.h"
#include "kernels/ops/dropout.h"

namespace sluice {

// 0, or 1 / (1 - p). The mask's keys lie in the host's memory.
inline double dropout_factor(const DropoutMask& mask, int64_t sequence, int64_t head, int64_t row, int64_t index) {
  const auto word = [&](int64_t i) { return uint64_t(uint32_t(mask.keys.as<int32_t>()[2 * sequence + i])); };
  const uint64_t key = word(1) << 32 | word(0);
  const uint64_t stream = (uint64_t(12) << 32) + (uint64_t(head) << 48) + mask.place;
  const uint64_t position = (uint64_t(row) << 32) + uint64_t(index / 8);
  const uint32_t pair = philox(key, stream, position).word[index % 8 / 2];
  const double bits = index % 2 ? pair / 65536 : pair % 65536, below = std::floor(mask.probability * 65536 + 0.5);
  return bits < below ? 0 : 65536 / (65536 - below);
}

}  // namespace sluice
