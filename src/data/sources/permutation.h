// The order of windows or documents in an epoch: the place of number n is known without replaying anything.
#pragma once

#include "base/error.h"
#include "base/permutation.h"

namespace sluice {

inline Permutation order_of_epoch(uint64_t size, uint64_t seed, uint32_t epoch) {
  check(size > 0, "a permutation of nothing");
  return {.seed = seed, .stream = uint64_t(Stream::kShuffle) | epoch, .size = size};
}

}  // namespace sluice
