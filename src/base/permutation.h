// A random permutation of 0 ... size-1 that is computed, not stored: constant memory for any size, and on any device.
//
// A balanced Feistel network on the smallest even number of bits that holds `size`, its round function a Philox draw
// keyed by (seed, stream). Results beyond `size` are encrypted again until they fall inside ("cycle walking", Black and
// Rogaway 2002), fewer than four times on average since the domain is less than four times too large.
#pragma once

#include <cstdint>

#include "base/philox.h"

namespace sluice {

struct Permutation {
  uint64_t seed = 0, stream = 0, size = 0;  // size: 1 to 2^62

  SLUICE_COUNTED uint64_t operator()(uint64_t index) const {
    int half_bits = 1;
    while (uint64_t{1} << 2 * half_bits < size) ++half_bits;
    do index = encrypt(index, half_bits);
    while (index >= size);
    return index;
  }

 private:
  SLUICE_COUNTED uint64_t encrypt(uint64_t index, int half_bits) const {
    constexpr uint64_t kRounds = 6;
    const uint64_t mask = (uint64_t{1} << half_bits) - 1;
    uint64_t left = index >> half_bits, right = index & mask;  // each below 2^32
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t next = left ^ (philox(seed, stream, round << 32 | right).word[0] & mask);
      left = right;
      right = next;
    }
    return left << half_bits | right;
  }
};

}  // namespace sluice
