// Mixes over depth on a GPU. A block has a token, in the backward pass a chunk of them one after the other: its warps
// take the sources in turn for their sums, all threads work out the weights from shared memory, and then each thread
// has columns of every source, which come from the cache.
//
// The sum g of the backward pass: a thread adds up its columns over the chunk's tokens in the workspace [chunk][C];
// then the chunks are added in order.
#include "kernels/ops/residual/depth_route.h"

#include <algorithm>

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/formulas/depth_route.h"

namespace sluice::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp;
constexpr int kMost = int(DepthRouteForward::kMostSources);

template <class S>
struct Route {
  Rows<S> states;
  int64_t C, step, last;
  int sources, routed;
  float base, epsilon;
  const float *query, *gain;  // null: all alpha are 1 / routed
  bool vector;
  __device__ __forceinline__ const S* source(int64_t row, int m, int64_t c) const {
    const int64_t state = m * step < last ? m * step : last;
    return states.at(row, state * C + c);
  }
};

struct Shared {
  float total[kMost], alpha[kMost], logit[kMost], rms[kMost], slope[kMost];
};

// A warp's sums over one source: V^2, query gain V and, with kSlope, d V.
template <bool kSlope, class S>
__device__ __forceinline__ void sum_source(const Route<S>& op, Shared& of, int64_t row, int m, const Rows<S>& d_out) {
  const int lane = int(threadIdx.x) % kWarp;
  float sums[3] = {0, 0, 0};
  for (int64_t c = int64_t(lane) * kPack; c < op.C; c += int64_t(kWarp) * kPack) {
    const int count = pack_count(op.C, c);
    float v[kPack], query[kPack], gain[kPack], d[kPack];
    load(v, op.source(row, m, c), count, op.vector);
    load(query, op.query + c, count, op.vector);
    load(gain, op.gain + c, count, op.vector);
    if constexpr (kSlope) load(d, d_out.at(row, c), count, op.vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      sums[0] += v[i] * v[i];
      sums[1] += v[i] * (query[i] * gain[i]);
      if constexpr (kSlope) sums[2] += v[i] * d[i];
    }
  }
#pragma unroll
  for (int i = 0; i < 3; ++i) sums[i] = warp_sum(sums[i]);
  if (lane != 0) return;
  const float rms = 1.0f / sqrt_of(sums[0] / float(op.C) + op.epsilon);
  of.rms[m] = rms;
  of.logit[m] = rms * sums[1];
  of.slope[m] = sums[2];
}

// All threads of the block call; what they find in `of` is there for all of them.
template <bool kSlope, class S>
__device__ __forceinline__ void weigh(const Route<S>& op, Shared& of, int64_t row, const Rows<S>& d_out) {
  if (op.query) {
    for (int m = int(threadIdx.x) / kWarp; m < op.routed; m += kWarps) sum_source<kSlope>(op, of, row, m, d_out);
    __syncthreads();
    float most = of.logit[0];
    for (int m = 1; m < op.routed; ++m) most = of.logit[m] > most ? of.logit[m] : most;
    for (int m = int(threadIdx.x); m < op.routed; m += kThreads) of.alpha[m] = exp_of(of.logit[m] - most);
    __syncthreads();
    float sum = 0;
    for (int m = 0; m < op.routed; ++m) sum += of.alpha[m];
    __syncthreads();  // every thread has read them
    for (int m = int(threadIdx.x); m < op.routed; m += kThreads) of.alpha[m] *= 1.0f / sum;
  } else {
    for (int m = int(threadIdx.x); m < op.routed; m += kThreads) of.alpha[m] = 1.0f / float(op.routed);
  }
  for (int m = int(threadIdx.x); m < op.sources; m += kThreads)
    of.total[m] = m < op.routed ? op.base + of.alpha[m] : op.base;
  __syncthreads();
}

template <class S>
__global__ void __launch_bounds__(kThreads) depth_route_kernel(Route<S> op, Rows<S> out) {
  __shared__ Shared of;
  const int64_t row = blockIdx.x;
  weigh<false>(op, of, row, out);
  for (int64_t c = int64_t(threadIdx.x) * kPack; c < op.C; c += int64_t(kThreads) * kPack) {
    const int count = pack_count(op.C, c);
    float sum[kPack] = {};
    for (int m = 0; m < op.sources; ++m) {
      float v[kPack];
      load(v, op.source(row, m, c), count, op.vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum[i] += of.total[m] * v[i];
    }
    store(out.at(row, c), sum, count, op.vector);
  }
}

// The gradients of a pack of a row's sources; adds to the pack of g.
template <class S>
__device__ __forceinline__ void spread(const Route<S>& op, const Shared& of, float mean, int64_t row, int64_t c,
                                       const Rows<S>& d_out, const Rows<S>& d_sources, bool add, float* g) {
  const int count = pack_count(op.C, c);
  float d[kPack], key[kPack] = {}, sum[kPack] = {};
  load(d, d_out.at(row, c), count, op.vector);
  if (op.query) {
    float gain[kPack];
    load(key, op.query + c, count, op.vector);
    load(gain, op.gain + c, count, op.vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) key[i] *= gain[i];
  }
  for (int m = 0; m < op.sources; ++m) {
    S* to = d_sources.at(row, m * op.C + c);
    float before[kPack] = {}, slope[kPack];
    if (add) load(before, to, count, op.vector);
    if (op.query && m < op.routed) {
      const DepthFactors<float> by =
          depth_factors(op.base, of.alpha[m], of.alpha[m] * (of.slope[m] - mean), of.logit[m], of.rms[m], float(op.C));
      float v[kPack];
      load(v, op.source(row, m, c), count, op.vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        sum[i] += by.of_key * v[i];
        slope[i] = depth_gradient(d[i], key[i], v[i], by) + before[i];
      }
    } else {
#pragma unroll
      for (int i = 0; i < kPack; ++i) slope[i] = of.total[m] * d[i] + before[i];
    }
    store(to, slope, count, op.vector);
  }
  if (!op.query) return;
  for (int i = 0; i < count; ++i) g[c + i] += sum[i];
}

template <class S>
__global__ void __launch_bounds__(kThreads)
    depth_route_backward_kernel(Route<S> op, Rows<S> d_out, Rows<S> d_sources, int64_t N, bool add, float* partial) {
  __shared__ Shared of;
  const int64_t first = N * blockIdx.x / gridDim.x, end = N * (blockIdx.x + 1) / gridDim.x;
  float* g = partial + int64_t(blockIdx.x) * op.C;
  for (int64_t c = int64_t(threadIdx.x) * kPack; c < op.C; c += int64_t(kThreads) * kPack)
    for (int i = 0; i < pack_count(op.C, c); ++i) g[c + i] = 0;
  for (int64_t row = first; row < end; ++row) {
    weigh<true>(op, of, row, d_out);
    float mean = 0;
    if (op.query)
      for (int m = 0; m < op.routed; ++m) mean += of.alpha[m] * of.slope[m];
    for (int64_t c = int64_t(threadIdx.x) * kPack; c < op.C; c += int64_t(kThreads) * kPack)
      spread(op, of, mean, row, c, d_out, d_sources, add, g);
    __syncthreads();  // the next row's weights take the place of these
  }
}

// d_query (+)= gain g,  d_gain (+)= query g
__global__ void __launch_bounds__(kThreads)
    products_kernel(float* d_query, float* d_gain, const float* query, const float* gain, const float* g, int64_t C,
                    bool accumulate) {
  const int64_t c = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= C) return;
  d_query[c] = gain[c] * g[c] + (accumulate ? d_query[c] : 0.0f);
  d_gain[c] = query[c] * g[c] + (accumulate ? d_gain[c] : 0.0f);
}

// `vector` says that the other tensors at hand may be read in packs; a source begins wherever C columns end.
template <class S>
Route<S> route_of(const DepthRouteForward& op, int64_t C, bool vector) {
  const bool packs = vector && C % kPack == 0 && vectorizable(view_of(op.states)) && vectorizable(floats(op.query)) &&
                     vectorizable(floats(op.gain));
  return {rows_of<S>(op.states),
          C,
          op.step,
          op.last,
          int(op.sources()),
          int(op.routed),
          float(op.base),
          float(op.epsilon),
          floats(op.query),
          floats(op.gain),
          packs};
}

}  // namespace

template <>
void on(const DepthRouteForward& op, const Queue& queue) {
  const View out = view_of(op.out);
  if (out.rows == 0) return;
  with_element(out.element, [&](auto storage) {
    using S = decltype(storage);
    launch(depth_route_kernel<S>, dim3(unsigned(out.rows)), dim3(kThreads), 0, queue.stream,
           route_of<S>(op, out.cols, vectorizable(out)), rows_of<S>(out));
  });
}

template <>
void on(const DepthRouteBackward& op, const Queue& queue) {
  const View d_out = view_of(op.d_out), d_sources = view_of(op.d_sources);
  const int64_t N = d_out.rows, C = d_out.cols, chunks = std::min(kRowChunks, N);
  if (chunks == 0) return;
  float* partial = floats(op.workspace);  // and behind the chunks' sums, their sum
  with_element(d_out.element, [&](auto storage) {
    using S = decltype(storage);
    launch(depth_route_backward_kernel<S>, dim3(unsigned(chunks)), dim3(kThreads), 0, queue.stream,
           route_of<S>(op.forward, C, vectorizable(d_out) && vectorizable(d_sources)), rows_of<S>(d_out),
           rows_of<S>(d_sources), N, op.add_to_d_sources, partial);
  });
  if (!op.forward.query) return;
  float* g = partial + kRowChunks * C;
  add_chunks(g, nullptr, partial, C, chunks, C, false, queue.stream);
  launch(products_kernel, dim3(unsigned((C + kThreads - 1) / kThreads)), dim3(kThreads), 0, queue.stream,
         floats(op.d_query), floats(op.d_gain), floats(op.forward.query), floats(op.forward.gain), g, C, op.accumulate);
}

}  // namespace sluice::cuda
