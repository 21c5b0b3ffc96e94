// Sums over the threads of a warp or of several warps, in an order that never changes.
#pragma once

#include "kernels/cuda/launch.h"

namespace sluice::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;

// The sum over kLanes neighbouring lanes (a power of two), in every one of them: a butterfly, whose additions commute,
// so that all get the same bits.
template <int kLanes = kWarp, class T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

// Each x[i] becomes its sum over the threads of a team: one warp of the block, or (kWarps > 1) all of its kWarps warps.
// All of the team's threads call.
template <int kWarps, int kValues>
__device__ __forceinline__ void team_sums(float (&x)[kValues]) {
#pragma unroll
  for (int i = 0; i < kValues; ++i) x[i] = warp_sum(x[i]);
  if constexpr (kWarps > 1) {
    __shared__ float parts[kValues][kWarps];
    __syncthreads();  // the last call's parts have been read
#pragma unroll
    for (int i = 0; i < kValues; ++i)
      if (threadIdx.x % kWarp == 0) parts[i][threadIdx.x / kWarp] = x[i];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      x[i] = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) x[i] += parts[i][w];
    }
  }
}

}  // namespace sluice::cuda
