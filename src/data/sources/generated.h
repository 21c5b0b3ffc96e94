// Generated sequences: each token is made from one 32-bit random word and the tokens before it.
//
// Counter layout: position = the sequence's number; low 32 bits of the stream = block of four words. A word depends on
// (seed, split, sequence, index) alone: not on the context length, the batch or the number of threads.
#pragma once

#include <cstdint>

#include "base/philox.h"
#include "data/sources/source.h"

namespace sluice {

// Fills [count, context] inputs and targets (see DataSource::fill), sequences in parallel. `start()` returns a fresh
// sampler for one sequence, and sampler(index, word) its tokens for index 0 ... context in order.
template <class Start>
void fill_generated(Split split, uint64_t seed, int64_t context, int64_t first_sequence, int64_t count, int32_t* inputs,
                    int32_t* targets, const Start& start) {
  const uint64_t stream = uint64_t(split == Split::kTrain ? Stream::kTrainData : Stream::kHeldOutData);
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < count; ++row) {
    int32_t* input = inputs + row * context;    // [context]
    int32_t* target = targets + row * context;  // [context]
    auto sampler = start();
    Random4 block{};
    for (int64_t index = 0; index <= context; ++index) {
      if (index % 4 == 0) block = philox(seed, stream | uint64_t(index / 4), uint64_t(first_sequence + row));
      const int32_t token = sampler(index, block.word[index % 4]);
      if (index < context) input[index] = token;
      if (index > 0) target[index - 1] = token;
    }
  }
}

}  // namespace sluice
