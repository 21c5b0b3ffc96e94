// Parameter updates in one pass over parameter, gradient, state and bf16 copy, and the sums that clipping and the loss
// need.
//
// Sums: each of a number of blocks that follows from n adds every so many-th piece, in double, threads in a fixed tree;
// the host adds the blocks in order.
#include "kernels/formulas/optimizer.h"

#include <algorithm>

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"

namespace sluice::cuda {
namespace {

struct AdamW {
  float *p, *m, *v;
  const float* grad;
  Bf16* compute_copy;  // may be null
  AdamWFactors<float> factors;
  bool vector;
  __device__ void operator()(int64_t, int64_t at, int count) const {
    float param[kPack], g[kPack], first[kPack], second[kPack];
    load(param, p + at, count, vector);
    load(g, grad + at, count, vector);
    load(first, m + at, count, vector);
    load(second, v + at, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) adamw(param[i], g[i], first[i], second[i], factors);
    store(p + at, param, count, vector);
    store(m + at, first, count, vector);
    store(v + at, second, count, vector);
    if (compute_copy) store(compute_copy + at, param, count, vector);
  }
};

struct Sgd {
  float *p, *m;  // m may be null where the momentum is 0
  const float* grad;
  Bf16* compute_copy;  // may be null
  SgdFactors<float> factors;
  bool vector;
  __device__ void operator()(int64_t, int64_t at, int count) const {
    float param[kPack], g[kPack], momentum[kPack] = {};
    load(param, p + at, count, vector);
    load(g, grad + at, count, vector);
    if (m) load(momentum, m + at, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sgd(param[i], g[i], momentum[i], factors);
    store(p + at, param, count, vector);
    if (m) store(m + at, momentum, count, vector);
    if (compute_copy) store(compute_copy + at, param, count, vector);
  }
};

bool vectorizable(const ParameterRange& range) {
  return aligned(range.param) && aligned(range.grad) && aligned(range.first_moment) && aligned(range.second_moment) &&
         aligned(range.compute_copy);
}

constexpr int kSumThreads = 512;

template <class S>
__global__ void __launch_bounds__(kSumThreads) partial_sums_kernel(double* partial, const S* x, int64_t n, bool squares,
                                                                   bool vector) {
  __shared__ double sums[kSumThreads / kWarp];
  double total = 0;
#pragma unroll 2
  for (int64_t at = (int64_t(blockIdx.x) * kSumThreads + threadIdx.x) * kPack; at < n;
       at += int64_t(gridDim.x) * kSumThreads * kPack) {
    float v[kPack];
    load(v, x + at, pack_count(n, at), vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) total += squares ? double(v[i]) * double(v[i]) : double(v[i]);
  }
  total = warp_sum(total);
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = total;
  __syncthreads();
  if (threadIdx.x > 0) return;
  total = 0;
  for (int w = 0; w < kSumThreads / kWarp; ++w) total += sums[w];
  partial[blockIdx.x] = total;
}

}  // namespace

void adamw_update(const ParameterRange& range, const AdamWStep& step, cudaStream_t stream) {
  map(1, range.n, true, stream,
      AdamW{range.param, range.first_moment, range.second_moment, range.grad, static_cast<Bf16*>(range.compute_copy),
            adamw_factors<float>(step, range.weight_decay), vectorizable(range)});
}

void sgd_update(const ParameterRange& range, const SgdStep& step, cudaStream_t stream) {
  map(1, range.n, true, stream,
      Sgd{range.param, range.first_moment, range.grad, static_cast<Bf16*>(range.compute_copy),
          sgd_factors<float>(step, range.weight_decay), vectorizable(range)});
}

int partial_sums(double* partial, const View& x, bool squares, cudaStream_t stream) {
  const int64_t n = x.rows * x.cols, blocks = std::clamp<int64_t>(n / (kSumThreads * kPack), 1, kSumBlocks);
  with_element(x.element, [&](auto storage) {
    using S = decltype(storage);
    launch(partial_sums_kernel<S>, dim3(unsigned(blocks)), dim3(kSumThreads), 0, stream, partial,
           static_cast<const S*>(x.data), n, squares, aligned(x.data));
  });
  return int(blocks);
}

}  // namespace sluice::cuda
