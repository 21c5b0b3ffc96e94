// Differences of heads on a GPU. Forward, a thread makes a pack of a result's head. Backward, eight lanes walk over the
// results from which one head was taken, and then over its own columns. The factor that a layer learns is one warp's.
#include "kernels/ops/stages/difference.h"

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/formulas/gate.h"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 256, kLanes = 8;

// Without logits, `learned` has each head's factor, which is clamped, or one of all heads.
template <class S>
struct Factors {
  Rows<S> logits;
  const float* learned;
  bool clamped;
  __device__ __forceinline__ float of(int64_t row, int64_t h) const {
    if (!learned) return gate_of(load_one(logits.at(row, h)));
    return clamped ? clamped_factor(learned[h]) : *learned;
  }
  // The gradient of the logit or number from that of the factor.
  __device__ __forceinline__ float gradient(int64_t row, int64_t h, float d_factor) const {
    if (!learned) return gate_logit_gradient(of(row, h), d_factor);
    return clamped ? clamped_factor_gradient(learned[h], d_factor) : d_factor;
  }
};

template <class S>
Factors<S> factors_of(const DifferenceForward& op) {
  if (op.has_logits()) return {rows_of<S>(op.lambda), nullptr, false};
  return {{}, floats(op.lambda), op.clamped};
}

template <class S>
struct Difference {
  Rows<S> out, x;
  Factors<S> factors;
  DifferenceLayout layout;
  int64_t D, packs;  // of a head
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int) const {
    const int64_t pack = col / kPack, h = quotient(pack, packs), i = (pack - h * packs) * kPack;
    const int count = pack_count(D, i);
    float signal[kPack], noise[kPack];
    load(signal, x.at(row, layout.signal_at(h) * D + i), count, vector);
    load(noise, x.at(row, layout.noise_at(h / layout.signal) * D + i), count, vector);
    const float factor = factors.of(row, h);
#pragma unroll
    for (int k = 0; k < kPack; ++k) signal[k] = less(signal[k], noise[k], factor);
    store(out.at(row, h * D + i), signal, count, vector);
  }
};

template <class S>
struct Backward {
  Rows<S> d_x, d_lambda, d_out, x;
  Factors<S> factors;
  DifferenceLayout layout;
  int64_t rows, D;
  bool vector;

  // The gradient of result h goes to its head of x; its product with the head that was taken from it, over the lane's
  // columns.
  __device__ __forceinline__ float hand_on(int64_t row, int64_t h, const S* noise, int64_t lane, bool valid) const {
    float dot = 0;
    for (int64_t i = lane * kPack; i < D; i += kLanes * kPack) {
      const int count = pack_count(D, i);
      float d[kPack], y[kPack];
      load(d, d_out.at(row, h * D + i), count, vector);
      load(y, noise + i, count, vector);
#pragma unroll
      for (int k = 0; k < kPack; ++k) dot += d[k] * y[k];
      if (valid) store(d_x.at(row, layout.signal_at(h) * D + i), d, count, vector);
    }
    return dot;
  }

  __device__ __forceinline__ void take(int64_t row, int64_t j, int64_t lane) const {
    for (int64_t i = lane * kPack; i < D; i += kLanes * kPack) {
      const int count = pack_count(D, i);
      float sum[kPack] = {}, d[kPack];
      for (int64_t h = j * layout.signal; h < (j + 1) * layout.signal; ++h) {
        load(d, d_out.at(row, h * D + i), count, vector);
        const float factor = factors.of(row, h);
#pragma unroll
        for (int k = 0; k < kPack; ++k) sum[k] = less(sum[k], d[k], factor);
      }
      store(d_x.at(row, layout.noise_at(j) * D + i), sum, count, vector);
    }
  }
};

// All lanes of a warp stay: they sum together. Those beyond the last row work on it once more and write nothing.
template <class S>
__global__ void __launch_bounds__(kThreads) difference_backward_kernel(Backward<S> b) {
  const int64_t index = (int64_t(blockIdx.x) * kThreads + threadIdx.x) / kLanes, heads = b.layout.noise_heads();
  const bool valid = index < b.rows * heads;
  const int64_t place = valid ? index : b.rows * heads - 1, row = quotient(place, heads), j = place - row * heads;
  const int64_t lane = threadIdx.x % kLanes;
  const S* noise = b.x.at(row, b.layout.noise_at(j) * b.D);
  for (int64_t h = j * b.layout.signal; h < (j + 1) * b.layout.signal; ++h) {
    const float d_factor = difference_factor_gradient(warp_sum<kLanes>(b.hand_on(row, h, noise, lane, valid)));
    if (valid && lane == 0) store_one(b.d_lambda.at(row, h), b.factors.gradient(row, h, d_factor));
  }
  if (valid) b.take(row, j, lane);
}

// One warp: e^(q . k) in every lane.
__device__ __forceinline__ float exponential(const float* q, const float* k, int64_t D) {
  float dot = 0;
  for (int64_t i = threadIdx.x; i < D; i += kWarp) dot += q[i] * k[i];
  return exp_of(warp_sum(dot));
}

__global__ void __launch_bounds__(kWarp) factor_kernel(float* out, const float* x, float initial, int64_t D) {
  const float first = exponential(x, x + D, D), second = exponential(x + 2 * D, x + 3 * D, D);
  if (threadIdx.x == 0) *out = first - second + initial;
}

__global__ void __launch_bounds__(kWarp)
    factor_backward_kernel(float* d_x, const float* x, const float* d_out, int64_t heads, int64_t D, bool accumulate) {
  float sum = 0;
  for (int64_t h = threadIdx.x; h < heads; h += kWarp) sum += d_out[h];
  const float slope = warp_sum(sum);
  const float slopes[2] = {slope * exponential(x, x + D, D), -slope * exponential(x + 2 * D, x + 3 * D, D)};
  for (int64_t i = threadIdx.x; i < D; i += kWarp)
    for (int64_t row = 0; row < 4; ++row) {
      const float term = slopes[row / 2] * x[(row ^ 1) * D + i];
      d_x[row * D + i] = accumulate ? d_x[row * D + i] + term : term;
    }
}

}  // namespace

template <>
void on(const DifferenceForward& op, const Queue& queue) {
  const int64_t D = op.out.cols() / op.layout.heads, packs = (D + kPack - 1) / kPack;
  const bool vector = vectorizable(view_of(op.x)) && vectorizable(view_of(op.out)) && D % kPack == 0;
  with_element(view_of(op.x).element, [&](auto storage) {
    using S = decltype(storage);
    map(op.x.rows(), op.layout.heads * packs * kPack, false, queue.stream,
        Difference<S>{rows_of<S>(op.out), rows_of<S>(op.x), factors_of<S>(op), op.layout, D, packs, vector});
  });
}

template <>
void on(const DifferenceBackward& op, const Queue& queue) {
  const DifferenceForward& forward = op.forward;
  const int64_t D = op.d_out.cols() / forward.layout.heads;
  const bool vector = vectorizable(view_of(forward.x)) && vectorizable(view_of(op.d_x)) &&
                      vectorizable(view_of(op.d_out)) && D % kPack == 0;
  constexpr int64_t kPerBlock = kThreads / kLanes;
  const int64_t blocks = (forward.x.rows() * forward.layout.noise_heads() + kPerBlock - 1) / kPerBlock;
  if (blocks == 0) return;
  with_element(view_of(forward.x).element, [&](auto storage) {
    using S = decltype(storage);
    launch(difference_backward_kernel<S>, dim3(unsigned(blocks)), dim3(kThreads), 0, queue.stream,
           Backward<S>{rows_of<S>(op.d_x), rows_of<S>(op.d_lambda), rows_of<S>(op.d_out), rows_of<S>(forward.x),
                       factors_of<S>(forward), forward.layout, forward.x.rows(), D, vector});
  });
}

template <>
void on(const DifferenceFactorForward& op, const Queue& queue) {
  launch(factor_kernel, dim3(1), dim3(kWarp), 0, queue.stream, floats(op.out), floats(op.vectors), float(op.initial),
         op.vectors.cols());
}

template <>
void on(const DifferenceFactorBackward& op, const Queue& queue) {
  launch(factor_backward_kernel, dim3(1), dim3(kWarp), 0, queue.stream, floats(op.d_vectors), floats(op.vectors),
         floats(op.d_out), op.d_out.elements(), op.vectors.cols(), op.accumulate);
}

}  // namespace sluice::cuda
