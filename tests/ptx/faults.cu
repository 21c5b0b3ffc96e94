// Kernels with one fault each, which the interpreter must name (fault_cases.py), and some that look like one and are
// none.
#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"

namespace sluice::cuda {

// Without the barrier warps read what others may not have written yet.
template <bool kBarrier>
__global__ void exchange_warps(float* out, const float* x) {
  __shared__ float kept[64];
  kept[threadIdx.x] = x[threadIdx.x];
  if constexpr (kBarrier) __syncthreads();
  out[threadIdx.x] = kept[threadIdx.x ^ 32];
}

// The same within a warp, whose lanes need not go in step.
template <bool kBarrier>
__global__ void exchange_lanes(float* out, const float* x) {
  __shared__ float kept[64];
  kept[threadIdx.x] = x[threadIdx.x];
  if constexpr (kBarrier) __syncwarp();
  out[threadIdx.x] = kept[threadIdx.x ^ 1];
}

// A place is written again while others may still read it.
template <bool kBarrier>
__global__ void overwrite(float* out, const float* x) {
  __shared__ float kept[64];
  kept[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  const float other = kept[threadIdx.x ^ 32];
  if constexpr (kBarrier) __syncthreads();
  kept[threadIdx.x] = other + 1;
  __syncthreads();
  out[threadIdx.x] = kept[threadIdx.x ^ 1];
}

// Neighbouring bytes belong to different lanes; or one byte to two of them.
template <int kShared>
__global__ void bytes(float* out, const float* x) {
  __shared__ unsigned char kept[64];
  kept[threadIdx.x / kShared] = static_cast<unsigned char>(x[threadIdx.x]);
  __syncthreads();
  out[threadIdx.x] = kept[threadIdx.x ^ 1];
}

// A block reads what another one writes in the same launch.
__global__ void between_blocks(float* out) {
  out[blockIdx.x * blockDim.x + threadIdx.x] = 1;
  if (blockIdx.x > 0) out[blockIdx.x * blockDim.x + threadIdx.x] += out[threadIdx.x];
}

// x has `stride` elements from row to row, a lane each: `shift` 0 is right.
__global__ void shifted(float* out, const float* x, int stride, int shift) {
  out[threadIdx.x] = x[int(threadIdx.x) * stride + shift];
}

__global__ void writes_input(float* x) { x[threadIdx.x] = 1; }

__global__ void vector_load(float* out, const float* x) {
  const float4 v = *reinterpret_cast<const float4*>(x + 4 * threadIdx.x);
  out[threadIdx.x] = v.x + v.y + v.z + v.w;
}

// Of `size` floats of dynamic shared memory, `set` are written before all are read.
__global__ void dynamic_floats(float* out, int set) {
  float* kept = reinterpret_cast<float*>(dynamic_shared());
  if (int(threadIdx.x) < set) kept[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = kept[threadIdx.x];
}

// Of an array of eight floats for each lane, `set` are written before one is read.
__global__ void local_floats(float* out, int set, int read) {
  float kept[8];
#pragma unroll 1
  for (int i = 0; i < set; ++i) kept[i] = float(i + int(threadIdx.x));
  out[threadIdx.x] = kept[read];
}

// Lanes from `lanes` on do not take part.
__global__ void shuffle_some(float* out, const float* x, int lanes) {
  float sum = x[threadIdx.x];
  if (int(threadIdx.x) < lanes) sum = warp_sum(sum);
  out[threadIdx.x] = sum;
}

__global__ void shuffle_half(float* out, const float* x) {
  out[threadIdx.x] = __shfl_xor_sync(0xffffu, x[threadIdx.x], 1);
}

// Threads from `threads` on have left.
__global__ void leave_early(float* out, int threads) {
  __shared__ float kept[64];
  if (int(threadIdx.x) >= threads) return;
  kept[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = kept[threadIdx.x ^ 1];
}

// Threads meet at different barriers.
__global__ void two_barriers(float* out) {
  __shared__ float kept[64];
  kept[threadIdx.x] = 1;
  if (threadIdx.x < 32) {
    __syncthreads();
    out[threadIdx.x] = kept[threadIdx.x + 32];
  } else {
    __syncthreads();
    out[threadIdx.x] = 2 * kept[threadIdx.x - 32];
  }
}

// kWait: 0: never waited for; 1: for this thread's copies; 2: and then for the others'.
template <int kWait>
__global__ void copies(float* out, const float* x) {
  float* kept = reinterpret_cast<float*>(dynamic_shared());
  copy_async_16(kept + 4 * threadIdx.x, x + 4 * threadIdx.x, true);
  copy_async_commit();
  if constexpr (kWait > 0) copy_async_wait<0>();
  if constexpr (kWait > 1) __syncthreads();
  if constexpr (kWait > 0) out[threadIdx.x] = kept[threadIdx.x];
}

template __global__ void exchange_warps<true>(float*, const float*);
template __global__ void exchange_warps<false>(float*, const float*);
template __global__ void exchange_lanes<true>(float*, const float*);
template __global__ void exchange_lanes<false>(float*, const float*);
template __global__ void overwrite<true>(float*, const float*);
template __global__ void overwrite<false>(float*, const float*);
template __global__ void bytes<1>(float*, const float*);
template __global__ void bytes<2>(float*, const float*);
template __global__ void copies<0>(float*, const float*);
template __global__ void copies<1>(float*, const float*);
template __global__ void copies<2>(float*, const float*);

}  // namespace sluice::cuda
