// Dropout (Srivastava et al., 2014): a value x becomes m x / (1 - p), m = 0 with probability p and else 1. m is drawn
// by position, so that no mask is stored and a backward pass draws it again.
//
// Values lie in rows, and rows in sequences. Philox4x32-10 gives 128 bits for eight values of a row that lie side by
// side, 16 bits each, and a value is dropped where its bits are below 2^16 p, rounded: p is a multiple of 2^-16 in the
// mask and in the factor alike, so that the mean of m / (1 - p) is 1.
//
//   key      the sequence's: dropout_key(seed, the sequence's number)
//   counter  the eight's place in the row | the row in the sequence | the place in the model | head and
//   Stream::kDropout
#pragma once

#include "base/philox.h"

namespace sluice {

inline constexpr int kDropoutGroup = 8;                // values of one draw
inline constexpr uint32_t kDropoutSlot = 0xfffffff8u;  // of attention weights: the eight whose first is a bias slot's

// A key that no other sequence of a run has.
inline uint64_t dropout_key(uint64_t seed, uint64_t sequence) {
  const Random4 words = philox(seed, uint64_t(Stream::kDropout), sequence);
  return uint64_t{words.word[1]} << 32 | words.word[0];
}

// As ops have it: two words, the low one first.
SLUICE_COUNTED uint64_t dropout_key_of(const int32_t* keys, int64_t sequence) {
  return uint64_t{uint32_t(keys[2 * sequence + 1])} << 32 | uint32_t(keys[2 * sequence]);
}

struct DropoutRate {
  uint32_t below;  // of 16 random bits: dropped
  double scale;    // of what is not
};

SLUICE_COUNTED DropoutRate dropout_rate(double probability) {
  const uint32_t below = uint32_t(probability * 65536 + 0.5);
  return {below, 65536.0 / (65536.0 - double(below))};
}

// `head` < 2^16; 0 where there are none.
SLUICE_COUNTED uint64_t dropout_stream(uint32_t place, uint32_t head) {
  return uint64_t(Stream::kDropout) | uint64_t{head} << 48 | place;
}

// Which values [8 group, 8 group + 8) of the row are dropped: bit i says it of the i-th.
SLUICE_COUNTED uint32_t dropped_of_group(uint64_t key, uint64_t stream, uint32_t row, uint32_t group, uint32_t below) {
  const Random4 words = philox(key, stream, uint64_t{row} << 32 | group);
  uint32_t dropped = 0;
#ifdef __CUDACC__
#pragma unroll
#endif
  for (int i = 0; i < kDropoutGroup; ++i)
    dropped |= uint32_t((words.word[i / 2] >> (i % 2 * 16) & 0xffff) < below) << i;
  return dropped;
}

}  // namespace sluice
