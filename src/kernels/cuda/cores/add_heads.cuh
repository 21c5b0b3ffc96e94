// What query heads have for the head of keys and values that they share, added up in their order.
#pragma once

#include "kernels/cuda/packs.cuh"

namespace sluice::cuda {

// Shares of heads with D features: feature i of head h in row t of sequence b lies at b of_sequence + h of_head + t
// of_row
// + i.
struct HeadShares {
  const float* from;
  int64_t of_sequence, of_head, of_row;
};

// out[b T + t, g D + i] = the sum over the heads h of group g.
template <class S>
struct AddHeads {
  Rows<S> out;
  HeadShares shares;
  int64_t T, D, group;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    const int64_t b = quotient(row, T), t = row - b * T;
    for (int64_t c = col; c < col + count; ++c) {
      const int64_t g = quotient(c, D);
      const float* from =
          shares.from + b * shares.of_sequence + g * group * shares.of_head + t * shares.of_row + c - g * D;
      float sum = 0;
      for (int64_t h = 0; h < group; ++h) sum += from[h * shares.of_head];
      store_one(out.at(row, c), sum);
    }
  }
};

}  // namespace sluice::cuda
