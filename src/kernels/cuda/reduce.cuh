// Sums over the threads of a warp or of several warps, and of what blocks have left, in an order that never changes.
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

inline constexpr int kTotalWarps = 8;
inline constexpr int64_t kMostPartialSums = 1024;  // blocks that leave one each in the queue's scratch memory

// *total += scale times the sum of what they left. A template, for a header may define no other kernel.
template <class T>
__global__ void __launch_bounds__(kTotalWarps* kWarp) total_kernel(T* total, const T* partial, int64_t count, T scale) {
  T sum[1] = {};
  for (int64_t i = threadIdx.x; i < count; i += kTotalWarps * kWarp) sum[0] += partial[i];
  team_sums<kTotalWarps>(sum);
  if (threadIdx.x == 0) *total += scale * sum[0];
}

inline void add_total(float* total, const float* partial, int64_t count, double scale, cudaStream_t stream) {
  launch(total_kernel<float>, dim3(1), dim3(kTotalWarps * kWarp), 0, stream, total, partial, count, float(scale));
}

}  // namespace sluice::cuda
