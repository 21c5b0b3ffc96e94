// Exclusive self-attention on a GPU: 8 to 32 lanes hold a row's key/value head in registers and walk over the heads
// that read it; memory is read and written once.
#include "kernels/ops/exclude_self.h"

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/formulas/exclude_self.h"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 256;

// Tensors of one op; d_out, d_y and d_v in the backward pass alone.
template <class S>
struct Tensors {
  Rows<S> y, v, out = {}, d_out = {}, d_y = {}, d_v = {};
  int64_t rows, KV, group, D;
  bool vector;
};

// A lane's packs of a head: columns (lane + 8 j) 8 and the next seven, zero beyond the head.
template <class S, int kLanes, int kPacks>
struct Slice {
  float x[kPacks][kPack];

  template <class Body>
  static __device__ __forceinline__ void for_packs(int64_t D, Body body) {
#pragma unroll
    for (int j = 0; j < kPacks; ++j) {
      const int64_t col = (int64_t(threadIdx.x % kLanes) + j * kLanes) * kPack;
      if (col < D) body(j, col, pack_count(D, col));
    }
  }
  __device__ __forceinline__ void read(const S* from, int64_t D, bool vector) {
#pragma unroll
    for (int j = 0; j < kPacks; ++j)
#pragma unroll
      for (int i = 0; i < kPack; ++i) x[j][i] = 0;
    for_packs(D, [&](int j, int64_t col, int count) { load(x[j], from + col, count, vector); });
  }
  __device__ __forceinline__ void write(S* to, int64_t D, bool vector) const {
    for_packs(D, [&](int j, int64_t col, int count) { store(to + col, x[j], count, vector); });
  }
  // Over all lanes of the head.
  __device__ __forceinline__ float dot(const Slice& other) const {
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
};

// All lanes of a warp stay: they sum together. Those beyond the last row work on it once more and write nothing.
template <class S, int kLanes, int kPacks, bool kBackward>
__global__ void __launch_bounds__(kThreads) exclude_self_kernel(Tensors<S> t) {
  const int64_t index = (int64_t(blockIdx.x) * kThreads + threadIdx.x) / kLanes, last = t.rows * t.KV - 1;
  const bool valid = index <= last;
  const int64_t place = valid ? index : last, row = quotient(place, t.KV), g = place - row * t.KV;
  Slice<S, kLanes, kPacks> v, sum;
  v.read(t.v.at(row, g * t.D), t.D, t.vector);
  const float square = v.dot(v), inverse = square > 0 ? 1 / square : 0;
  sum.each([](float) { return 0.0f; });
  for (int64_t h = g * t.group; h < (g + 1) * t.group; ++h) {
    Slice<S, kLanes, kPacks> y, d;
    y.read(t.y.at(row, h * t.D), t.D, t.vector);
    const float a = y.dot(v) * inverse;
    if constexpr (kBackward) {
      d.read(t.d_out.at(row, h * t.D), t.D, t.vector);
      const float b = d.dot(v) * inverse;
      sum.each([=](float s, float y, float d, float v) { return s + excluded_value_gradient(y, d, v, a, b); }, y, d, v);
      d.each([=](float d, float v) { return without_value(d, v, b); }, v);
      if (valid) d.write(t.d_y.at(row, h * t.D), t.D, t.vector);
    } else {
      y.each([=](float y, float v) { return without_value(y, v, a); }, v);
      if (valid) y.write(t.out.at(row, h * t.D), t.D, t.vector);
    }
  }
  if constexpr (kBackward)
    if (valid) sum.write(t.d_v.at(row, g * t.D), t.D, t.vector);
}

template <class S, int kLanes, int kPacks, bool kBackward>
void run_with(const Tensors<S>& t, cudaStream_t stream) {
  constexpr int64_t kPerBlock = kThreads / kLanes;
  const int64_t blocks = (t.rows * t.KV + kPerBlock - 1) / kPerBlock;
  if (blocks > 0)
    launch(exclude_self_kernel<S, kLanes, kPacks, kBackward>, dim3(unsigned(blocks)), dim3(kThreads), 0, stream, t);
}

template <class S, bool kBackward>
void run(const Tensors<S>& t, cudaStream_t stream) {
  if (t.D <= 8 * kPack) run_with<S, 8, 1, kBackward>(t, stream);
  else if (t.D <= 16 * kPack) run_with<S, 16, 1, kBackward>(t, stream);
  else if (t.D <= 32 * kPack) run_with<S, 32, 1, kBackward>(t, stream);
  else run_with<S, 32, 2, kBackward>(t, stream);
  static_assert(ExcludeSelfForward::kMostFeatures == 2 * 32 * kPack);
}

template <class S>
Tensors<S> tensors_of(const ExcludeSelfForward& op) {
  const int64_t D = op.y.cols() / op.heads;
  return {.y = rows_of<S>(op.y),
          .v = rows_of<S>(op.v),
          .rows = op.y.rows(),
          .KV = op.kv_heads,
          .group = op.heads / op.kv_heads,
          .D = D,
          .vector = vectorizable(view_of(op.y)) && vectorizable(view_of(op.v)) && D % kPack == 0};
}

}  // namespace

template <>
void on(const ExcludeSelfForward& op, const Queue& queue) {
  with_element(view_of(op.y).element, [&](auto storage) {
    using S = decltype(storage);
    Tensors<S> t = tensors_of<S>(op);
    t.out = rows_of<S>(op.out);
    t.vector &= vectorizable(view_of(op.out));
    run<S, false>(t, queue.stream);
  });
}

template <>
void on(const ExcludeSelfBackward& op, const Queue& queue) {
  with_element(view_of(op.forward.y).element, [&](auto storage) {
    using S = decltype(storage);
    Tensors<S> t = tensors_of<S>(op.forward);
    t.d_out = rows_of<S>(op.d_out), t.d_y = rows_of<S>(op.d_y), t.d_v = rows_of<S>(op.d_v);
    t.vector &= vectorizable(view_of(op.d_out)) && vectorizable(view_of(op.d_y)) && vectorizable(view_of(op.d_v));
    run<S, true>(t, queue.stream);
  });
}

}  // namespace sluice::cuda
