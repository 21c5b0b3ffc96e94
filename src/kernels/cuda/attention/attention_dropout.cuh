// Which weights of a tile dropout takes away, for the attention kernels: the masks of kernels/formulas/dropout.h, row i
// and value j being weight p_ij of its head.
//
// A draw is for eight keys of one query. In tiles [queries, keys] these are the eight columns that a quad shares: its
// lanes draw for four rows or tiles at once and hand a byte to one another. In tiles [keys, queries] they are eight
// rows of a warp, so that 32 lanes draw for two tiles of eight queries. Either way a lane draws once for eight weights,
// and keeps one bit for each.
#pragma once

#include "kernels/cuda/attention/attention.cuh"

namespace sluice::cuda {

struct HeadDropout {
  uint64_t key, stream;
  uint32_t below;
  __device__ __forceinline__ HeadDropout(const AttentionProblem& p, int b, int h)
      : key(dropout_key_of(p.dropout_keys, b)),
        stream(p.dropout_stream | uint64_t(uint32_t(h)) << 48),
        below(p.dropped_below) {}
  __device__ __forceinline__ uint32_t dropped(int query, uint32_t group) const {
    return dropped_of_group(key, stream, uint32_t(query), group, below);
  }
};

// Of a lane's weights of each strip, bit 4 * tile + e.
template <int kStrips>
struct DroppedBits {
  uint32_t of_strip[kStrips];
};

// In a tile [queries, keys]; `query` is the warp's first, `key` the tile's. All lanes of a warp call.
template <int kStrips, int kTiles>
__device__ __forceinline__ DroppedBits<kStrips> dropped_of_queries(const HeadDropout& head, int query, int key) {
  const int lane = lane_index(), g = lane / 4, t = lane % 4;
  DroppedBits<kStrips> out{};
#pragma unroll
  for (int first = 0; first < 2 * kStrips * kTiles; first += 4) {
    const int own = first + t;
    const uint32_t mine = head.dropped(query + 8 * (own / kTiles) + g, uint32_t(key / kDropoutGroup + own % kTiles));
#pragma unroll
    for (int from = 0; from < 4; ++from) {
      const int r = (first + from) / kTiles, tile = (first + from) % kTiles;
      const uint32_t pair = __shfl_sync(kAllLanes, mine, lane - t + from) >> (2 * t) & 3;
      out.of_strip[r / 2] |= pair << (4 * tile + r % 2 * 2);
    }
  }
  return out;
}

// In a tile [keys, queries]; `key` is the warp's first, `query` the tile's. All lanes of a warp call.
template <int kStrips, int kTiles>
__device__ __forceinline__ DroppedBits<kStrips> dropped_of_keys(const HeadDropout& head, int key, int query) {
  const int lane = lane_index(), g = lane / 4, t = lane % 4;
  DroppedBits<kStrips> out{};
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
    for (int first = 0; first < kTiles; first += 2) {
      const uint32_t mine = head.dropped(query + 8 * (first + lane / 16) + lane % 8,
                                         uint32_t((key + 16 * strip) / kDropoutGroup + lane / 8 % 2));
#pragma unroll
      for (int tile = 0; tile < 2; ++tile)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const uint32_t eight = __shfl_sync(kAllLanes, mine, 16 * tile + 8 * (e / 2) + 2 * t + e % 2);
          out.of_strip[strip] |= (eight >> g & 1) << (4 * (first + tile) + e);
        }
    }
  return out;
}

template <int kStrips, int kTiles>
__device__ __forceinline__ void drop(float (&s)[kStrips][kTiles][4], const DroppedBits<kStrips>& dropped, float scale) {
  for_elements<kStrips, kTiles>([&](Place at) {
    float& x = s[at.strip][at.tile][at.e];
    x = dropped.of_strip[at.strip] >> (4 * at.tile + at.e) & 1 ? 0.0f : x * scale;
  });
}

// What the bias slot's weight in a row is multiplied with; 1 without dropout.
__device__ __forceinline__ float slot_factor(const AttentionProblem& p, int b, int h, int query) {
  if (!p.dropout_keys) return 1;
  return HeadDropout(p, b, h).dropped(query, kDropoutSlot) & 1 ? 0.0f : p.dropout_scale;
}

}  // namespace sluice::cuda
