// Softmax cross-entropy of a row of logits, with its gradient in place. One block a row.
//
// First visit: each thread keeps the running maximum m of its logits and l = sum e^(x - m), rescaled when m rises;
// pairs (m, l) are merged over the block, l in double. Second visit, from the L2 cache as a rule, where a gradient is
// wanted: x becomes (e^(x - m) / l - [target]) * scale. A NaN logit makes l, and with it the loss and the row's
// gradient, NaN.
#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/formulas/math.h"
#include "kernels/ops/tokens.h"

namespace sluice::cuda {
namespace {

constexpr float kLowest = -3.0e38f;  // finite, so that a row of -inf is no special case

struct Normaliser {
  float reference;  // m
  double total;     // l
};

__device__ __forceinline__ Normaliser merged(const Normaliser& a, const Normaliser& b) {
  const float m = fmaxf(a.reference, b.reference);
  return {m, a.total * double(exp_of(a.reference - m)) + b.total * double(exp_of(b.reference - m))};
}

// Of all lanes' pairs; valid in lane 0.
__device__ __forceinline__ Normaliser warp_merged(Normaliser mine) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const float m = __shfl_xor_sync(kAllLanes, mine.reference, step);
    const double total = __shfl_xor_sync(kAllLanes, mine.total, step);
    mine = merged(mine, {m, total});
  }
  return mine;
}

// Of this thread's packs of the row.
template <class S>
__device__ __forceinline__ Normaliser thread_normaliser(const S* x, int64_t V, bool vector) {
  float m = kLowest, total = 0;
  for (int64_t c = int64_t(threadIdx.x) * kPack; c < V; c += int64_t(blockDim.x) * kPack) {
    const int count = pack_count(V, c);
    float v[kPack], most = m, sum = 0;
    load(v, x + c, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      if (i < count) most = fmaxf(most, v[i]);  // passes a NaN by; the sum does not
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      if (i < count) sum += exp_of(v[i] - most);
    total = total * exp_of(m - most) + sum;
    m = most;
  }
  return {m, double(total)};
}

// x becomes e^(x - m) * factor, but for the target, whose gradient is given.
template <class S>
__device__ __forceinline__ void write_gradient(S* x, int64_t V, float m, float factor, int64_t target, float of_target,
                                               bool vector) {
  for (int64_t c = int64_t(threadIdx.x) * kPack; c < V; c += int64_t(blockDim.x) * kPack) {
    const int count = pack_count(V, c);
    float v[kPack];
    load(v, x + c, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = c + i == target ? of_target : exp_of(v[i] - m) * factor;
    store(x + c, v, count, vector);
  }
}

template <class S>
__device__ __forceinline__ void clear_row(S* x, int64_t V, bool vector) {
  const float zeros[kPack] = {};
  for (int64_t c = int64_t(threadIdx.x) * kPack; c < V; c += int64_t(blockDim.x) * kPack)
    store(x + c, zeros, pack_count(V, c), vector);
}

template <class S, int kThreads>
__global__ void __launch_bounds__(kThreads) cross_entropy_kernel(float* losses, Rows<S> logits, const int32_t* targets,
                                                                 int64_t V, double grad_scale, bool vector) {
  __shared__ float references[kThreads / kWarp];
  __shared__ double totals[kThreads / kWarp];
  const int64_t row = blockIdx.x, target = targets[row];
  S* x = logits.at(row, 0);
  if (target < 0) {  // the whole block
    if (grad_scale != 0) clear_row(x, V, vector);
    if (threadIdx.x == 0) losses[row] = 0;
    return;
  }
  const int warp = int(threadIdx.x) / kWarp;
  const float chosen = target < V ? load_one(x + target) : NAN;
  Normaliser all = warp_merged(thread_normaliser(x, V, vector));
  if (threadIdx.x % kWarp == 0) references[warp] = all.reference, totals[warp] = all.total;
  __syncthreads();  // all have read: from here on the row may be overwritten
  all = {references[0], totals[0]};
  for (int w = 1; w < kThreads / kWarp; ++w) all = merged(all, {references[w], totals[w]});
  if (threadIdx.x == 0) losses[row] = float(log_of(all.total) + (double(all.reference) - double(chosen)));
  if (grad_scale == 0) return;
  const double probability = double(exp_of(chosen - all.reference)) / all.total;
  write_gradient(x, V, all.reference, float(grad_scale / all.total), target, float((probability - 1) * grad_scale),
                 vector);
}

template <class S, int kThreads>
void run(const CrossEntropy& op, const View& logits, cudaStream_t stream) {
  launch(cross_entropy_kernel<S, kThreads>, dim3(unsigned(logits.rows)), dim3(kThreads), 0, stream, floats(op.losses),
         rows_of<S>(logits), op.targets.as<const int32_t>(), logits.cols, op.grad_scale, vectorizable(logits));
}

}  // namespace

template <>
void on(const CrossEntropy& op, const Queue& queue) {
  const View logits = view_of(op.logits);
  if (logits.rows == 0) return;
  with_element(logits.element, [&](auto storage) {
    using S = decltype(storage);
    if (logits.cols <= 512) run<S, 32>(op, logits, queue.stream);
    else if (logits.cols <= 16384) run<S, 256>(op, logits, queue.stream);
    else run<S, 512>(op, logits, queue.stream);
  });
}

}  // namespace sluice::cuda
