// Parameter updates in one pass over parameter, gradient, state and bf16 copy, and the sums that clipping and the loss
// need.
//
// Sums: each of a number of blocks that follows from n adds every so many-th piece, in double, threads in a fixed tree;
// the host adds the blocks in order.
#include "kernels/formulas/optimizer.h"

#include <algorithm>

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/ops/optimizer.h"

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

bool vectorizable(const OptimizerRange& range) {
  return aligned(range.param.data) && aligned(range.grad.data) && aligned(range.first_moment.data) &&
         aligned(range.second_moment.data) && aligned(range.compute_copy.data);
}

constexpr int kSumThreads = 512;

// partial[blockIdx.x] = the sum of `mine` over the block's threads, which all call.
__device__ __forceinline__ void write_block_sum(double* partial, double mine) {
  __shared__ double sums[kSumThreads / kWarp];
  mine = warp_sum(mine);
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = mine;
  __syncthreads();
  if (threadIdx.x > 0) return;
  mine = 0;
  for (int w = 0; w < kSumThreads / kWarp; ++w) mine += sums[w];
  partial[blockIdx.x] = mine;
}

template <class S>
__global__ void __launch_bounds__(kSumThreads)
    partial_sums_kernel(double* partial, const S* x, int64_t n, bool squares, bool vector) {
  double total = 0;
#pragma unroll 2
  for (int64_t at = (int64_t(blockIdx.x) * kSumThreads + threadIdx.x) * kPack; at < n;
       at += int64_t(gridDim.x) * kSumThreads * kPack) {
    float v[kPack];
    load(v, x + at, pack_count(n, at), vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) total += squares ? double(v[i]) * double(v[i]) : double(v[i]);
  }
  write_block_sum(partial, total);
}

// How many blocks add up n elements.
int64_t sum_blocks(int64_t n) { return std::clamp<int64_t>(n / (kSumThreads * kPack), 1, kSumBlocks); }

// --- Muon: the momentum with partial sums of u's squares, their inverse root, the direction

__global__ void __launch_bounds__(kSumThreads)
    muon_momentum_kernel(float* momentum, const float* grad, MuonFactors<float> factors, double* partial, int64_t n,
                         bool vector) {
  double total = 0;
  for (int64_t at = (int64_t(blockIdx.x) * kSumThreads + threadIdx.x) * kPack; at < n;
       at += int64_t(gridDim.x) * kSumThreads * kPack) {
    const int count = pack_count(n, at);
    float m[kPack], g[kPack];
    load(m, momentum + at, count, vector);
    load(g, grad + at, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      m[i] = muon_momentum(m[i], g[i], factors);
      const float u = muon_momentum(m[i], g[i], factors);
      total += double(u) * double(u);
    }
    store(momentum + at, m, count, vector);
  }
  write_block_sum(partial, total);
}

// One block.
__global__ void __launch_bounds__(kSumThreads) inverse_norm_kernel(double* partial, int count, double* out) {
  write_block_sum(out, int(threadIdx.x) < count ? partial[threadIdx.x] : 0.0);
  if (threadIdx.x == 0) *out = inverse_norm(*out);
}
static_assert(kSumBlocks <= kSumThreads);

template <class S>
struct MuonDirection {
  Rows<S> out;
  const float *momentum, *grad;
  MuonFactors<float> factors;
  const double* scale;
  bool vector;
  __device__ void operator()(int64_t, int64_t at, int count) const {
    float m[kPack], g[kPack];
    load(m, momentum + at, count, vector);
    load(g, grad + at, count, vector);
    const float factor = float(*scale);
#pragma unroll
    for (int i = 0; i < kPack; ++i) m[i] = muon_momentum(m[i], g[i], factors) * factor;
    store(out.data + at, m, count, vector);
  }
};

template <class S>
struct AddMatrices {
  Rows<S> out, x, y;
  float a, b, c;
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    float v[kPack], w[kPack];
    load(v, x.at(row, col), count, vector);
    load(w, y.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = b * v[i] + c * w[i] + (row == col + i ? a : 0.0f);
    store(out.at(row, col), v, count, vector);
  }
};

}  // namespace

template <>
void on(const AdamWUpdate& op, const Queue& queue) {
  const OptimizerRange& range = op.range;
  map(1, range.param.elements(), true, queue.stream,
      AdamW{floats(range.param), floats(range.first_moment), floats(range.second_moment), floats(range.grad),
            range.compute_copy.as<Bf16>(), adamw_factors<float>(op.step, range.weight_decay), vectorizable(range)});
}

template <>
void on(const SgdUpdate& op, const Queue& queue) {
  const OptimizerRange& range = op.range;
  map(1, range.param.elements(), true, queue.stream,
      Sgd{floats(range.param), floats(range.first_moment), floats(range.grad), range.compute_copy.as<Bf16>(),
          sgd_factors<float>(op.step, range.weight_decay), vectorizable(range)});
}

template <>
void on(const MuonMomentum& op, const Queue& queue) {
  const View out = view_of(op.out);
  float *grad = floats(op.grad), *momentum = floats(op.momentum);
  const int64_t n = out.rows * out.cols, blocks = sum_blocks(n);
  const bool vector = aligned(grad) && aligned(momentum);
  const MuonFactors<float> factors = muon_factors<float>(op.beta, op.grad_scale);
  double *partial = static_cast<double*>(queue.scratch), *scale = partial + kSumBlocks;
  launch(muon_momentum_kernel, dim3(unsigned(blocks)), dim3(kSumThreads), 0, queue.stream, momentum, grad, factors,
         partial, n, vector);
  launch(inverse_norm_kernel, dim3(1), dim3(kSumThreads), 0, queue.stream, partial, int(blocks), scale);
  with_element(out.element, [&](auto storage) {
    using S = decltype(storage);
    map(1, n, true, queue.stream,
        MuonDirection<S>{rows_of<S>(out), momentum, grad, factors, scale, vector && aligned(out.data)});
  });
}

template <>
void on(const MatrixSum& op, const Queue& queue) {
  const View out = view_of(op.out), x = view_of(op.x), y = view_of(op.y);
  const bool vector = cuda::vectorizable(out) && cuda::vectorizable(x) && cuda::vectorizable(y);
  with_element(out.element, [&](auto storage) {
    using S = decltype(storage);
    map(out.rows, out.cols, false, queue.stream,
        AddMatrices<S>{rows_of<S>(out), rows_of<S>(x), rows_of<S>(y), float(op.a), float(op.b), float(op.c), vector});
  });
}

int partial_sums(double* partial, const View& x, bool squares, cudaStream_t stream) {
  const int64_t n = x.rows * x.cols, blocks = sum_blocks(n);
  with_element(x.element, [&](auto storage) {
    using S = decltype(storage);
    launch(partial_sums_kernel<S>, dim3(unsigned(blocks)), dim3(kSumThreads), 0, stream, partial,
           static_cast<const S*>(x.data), n, squares, aligned(x.data));
  });
  return int(blocks);
}

}  // namespace sluice::cuda
