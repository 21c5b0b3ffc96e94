// A random permutation of 0 ... size-1 that is computed, not stored: constant memory for any number of windows, and
// the place of window n in epoch e is known without replaying anything.
//
// A balanced Feistel network on the smallest even number of bits that holds `size`, its round function a Philox draw
// keyed by (seed, epoch). Results beyond `size` are encrypted again until they fall inside ("cycle walking", Black and
// Rogaway 2002), fewer than four times on average since the domain is less than four times too large.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/error.h"
#include "base/philox.h"

namespace sluice {

class Permutation {
 public:
  Permutation(uint64_t size, uint64_t seed, uint32_t epoch) : size_(size), seed_(seed), epoch_(epoch) {
    check(size > 0, "a permutation of nothing");
    half_bits_ = std::max(1, (int(std::bit_width(size - 1)) + 1) / 2);
  }

  uint64_t operator()(uint64_t index) const {
    do index = encrypt(index);
    while (index >= size_);
    return index;
  }

 private:
  static constexpr uint64_t kRounds = 6;

  uint64_t encrypt(uint64_t index) const {
    const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
    uint64_t left = index >> half_bits_, right = index & mask;  // each below 2^32
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t mixed = philox(seed_, uint64_t(Stream::kShuffle) | epoch_, round << 32 | right).word[0];
      const uint64_t next = left ^ (mixed & mask);
      left = right;
      right = next;
    }
    return left << half_bits_ | right;
  }

  uint64_t size_, seed_;
  uint32_t epoch_;
  int half_bits_;
};

}  // namespace sluice
