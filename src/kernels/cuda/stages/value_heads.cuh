// Walks over rows and key/value heads, for ops between a head's results and its group's values: 8 to 32 lanes hold a
// row's key/value head in registers and walk over the query heads that read it. Memory is read and written once.
#pragma once

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"

namespace sluice::cuda {

// A lane's packs of a head: columns (lane + lanes j) 8 and the next seven, zero beyond the head.
template <class S, int kLanes, int kPacks>
struct HeadSlice {
  float x[kPacks][kPack];

  template <class Body>
  static __device__ __forceinline__ void for_packs(int64_t D, Body body) {
#pragma unroll
    for (int j = 0; j < kPacks; ++j) {
      const int64_t col = (int64_t(threadIdx.x % kLanes) + j * kLanes) * kPack;
      if (col < D) body(j, col, pack_count(D, col));
    }
  }
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int j = 0; j < kPacks; ++j)
#pragma unroll
      for (int i = 0; i < kPack; ++i) x[j][i] = 0;
  }
  __device__ __forceinline__ void read(const S* from, int64_t D, bool vector) {
    clear();
    for_packs(D, [&](int j, int64_t col, int count) { load(x[j], from + col, count, vector); });
  }
  __device__ __forceinline__ void write(S* to, int64_t D, bool vector) const {
    for_packs(D, [&](int j, int64_t col, int count) { store(to + col, x[j], count, vector); });
  }
  // Over all lanes of the head.
  __device__ __forceinline__ float dot(const HeadSlice& other) const {
    float sum = 0;
#pragma unroll
    for (int j = 0; j < kPacks; ++j)
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum += x[j][i] * other.x[j][i];
    return warp_sum<kLanes>(sum);
  }
  // x = f(x, others...) at every element.
  template <class F, class... Others>
  __device__ __forceinline__ void each(F f, const Others&... others) {
#pragma unroll
    for (int j = 0; j < kPacks; ++j)
#pragma unroll
      for (int i = 0; i < kPack; ++i) x[j][i] = f(x[j][i], others.x[j][i]...);
  }
  static __device__ __forceinline__ bool is_first_lane() { return threadIdx.x % kLanes == 0; }
};

inline constexpr int kValueHeadThreads = 256;
inline constexpr int64_t kMostValueFeatures = 2 * 32 * kPack;  // of a head

// All lanes of a warp stay: they sum together. Those beyond the last row work on it once more and may write nothing.
template <class Slice, int kLanes, class Op>
__global__ void __launch_bounds__(kValueHeadThreads) value_heads_kernel(int64_t rows, int64_t KV, Op op) {
  const int64_t index = (int64_t(blockIdx.x) * kValueHeadThreads + threadIdx.x) / kLanes, last = rows * KV - 1;
  const bool valid = index <= last;
  const int64_t place = valid ? index : last, row = quotient(place, KV);
  op.template at<Slice>(row, place - row * KV, valid);
}

template <class S, int kLanes, int kPacks, class Op>
void walk_value_heads(int64_t rows, int64_t KV, cudaStream_t stream, const Op& op) {
  constexpr int64_t kPerBlock = kValueHeadThreads / kLanes;
  const int64_t blocks = (rows * KV + kPerBlock - 1) / kPerBlock;
  if (blocks > 0)
    launch(value_heads_kernel<HeadSlice<S, kLanes, kPacks>, kLanes, Op>, dim3(unsigned(blocks)),
           dim3(kValueHeadThreads), 0, stream, rows, KV, op);
}

// op.at<HeadSlice<S, ...>>(row, key/value head, whether it may write) by all lanes of a head of D features.
template <class S, class Op>
void for_value_heads(int64_t rows, int64_t KV, int64_t D, cudaStream_t stream, const Op& op) {
  if (D <= 8 * kPack) walk_value_heads<S, 8, 1>(rows, KV, stream, op);
  else if (D <= 16 * kPack) walk_value_heads<S, 16, 1>(rows, KV, stream, op);
  else if (D <= 32 * kPack) walk_value_heads<S, 32, 1>(rows, KV, stream, op);
  else walk_value_heads<S, 32, 2>(rows, KV, stream, op);
}

}  // namespace sluice::cuda
