// Affine-scaled attention on a GPU, on the walk of value_heads.cuh; and the mean of its factors, a block for each head.
#include "kernels/ops/stages/affine.h"

#include "kernels/cuda/stages/value_heads.cuh"

namespace sluice::cuda {
namespace {

static_assert(AffineForward::kMostFeatures == kMostValueFeatures);

// Tensors of one op; d_out, d_y, d_u and d_logits in the backward pass alone.
template <class S>
struct Tensors {
  AffinePhi phi;
  Rows<S> y, u, logits, out = {}, d_out = {}, d_y = {}, d_u = {}, d_logits = {};
  const float* average;
  int64_t rows, KV, group, D;
  bool vector;
};

template <class S, bool kBackward>
struct Affine {
  Tensors<S> t;

  template <class Slice>
  __device__ void at(int64_t row, int64_t g, bool valid) const {
    Slice u, sum;
    u.read(t.u.at(row, g * t.D), t.D, t.vector);
    sum.clear();
    for (int64_t h = g * t.group; h < (g + 1) * t.group; ++h) {
      Slice y, d;
      y.read(t.y.at(row, h * t.D), t.D, t.vector);
      const float z = load_one(t.logits.at(row, h)), a = phi_of(t.phi, z), m = t.average[h];
      if constexpr (kBackward) {
        d.read(t.d_out.at(row, h * t.D), t.D, t.vector);
        y.each([](float y, float u) { return y - u; }, u);
        const float dot = d.dot(y);
        sum.each([=](float s, float d) { return s + (m - a) * d; }, d);
        d.each([=](float d) { return a * d; });
        if (valid) d.write(t.d_y.at(row, h * t.D), t.D, t.vector);
        if (valid && Slice::is_first_lane()) store_one(t.d_logits.at(row, h), phi_slope(t.phi, z) * dot);
      } else {
        y.each([=](float y, float u) { return affine_result(y, u, a, m); }, u);
        if (valid) y.write(t.out.at(row, h * t.D), t.D, t.vector);
      }
    }
    if constexpr (kBackward)
      if (valid) sum.write(t.d_u.at(row, g * t.D), t.D, t.vector);
  }
};

template <class S, bool kBackward>
void run(const Tensors<S>& t, cudaStream_t stream) {
  for_value_heads<S>(t.rows, t.KV, t.D, stream, Affine<S, kBackward>{t});
}

template <class S>
Tensors<S> tensors_of(const AffineForward& op) {
  const int64_t D = op.y.cols() / op.heads;
  return {.phi = op.phi,
          .y = rows_of<S>(op.y),
          .u = rows_of<S>(op.u),
          .logits = rows_of<S>(op.logits),
          .average = floats(op.average),
          .rows = op.y.rows(),
          .KV = op.kv_heads,
          .group = op.heads / op.kv_heads,
          .D = D,
          .vector = vectorizable(view_of(op.y)) && vectorizable(view_of(op.u)) && D % kPack == 0};
}

constexpr int kMeanWarps = 8;

template <class S>
__global__ void __launch_bounds__(kMeanWarps* kWarp) mean_kernel(AffinePhi phi, View logits, float* mean, float share) {
  const Rows<S> rows = rows_of<S>(logits);
  float sum[1] = {0};
  for (int64_t n = threadIdx.x; n < logits.rows; n += kMeanWarps * kWarp)
    sum[0] += phi_of(phi, load_one(rows.at(n, blockIdx.x)));
  team_sums<kMeanWarps>(sum);
  if (threadIdx.x == 0) mean[blockIdx.x] += share * sum[0];
}

}  // namespace

template <>
void on(const AffineForward& op, const Queue& queue) {
  with_element(view_of(op.y).element, [&](auto storage) {
    using S = decltype(storage);
    Tensors<S> t = tensors_of<S>(op);
    t.out = rows_of<S>(op.out);
    t.vector &= vectorizable(view_of(op.out));
    run<S, false>(t, queue.stream);
  });
}

template <>
void on(const AffineBackward& op, const Queue& queue) {
  with_element(view_of(op.forward.y).element, [&](auto storage) {
    using S = decltype(storage);
    Tensors<S> t = tensors_of<S>(op.forward);
    t.d_out = rows_of<S>(op.d_out), t.d_y = rows_of<S>(op.d_y), t.d_u = rows_of<S>(op.d_u);
    t.d_logits = rows_of<S>(op.d_logits);
    t.vector &= vectorizable(view_of(op.d_out)) && vectorizable(view_of(op.d_y)) && vectorizable(view_of(op.d_u));
    run<S, true>(t, queue.stream);
  });
}

template <>
void on(const AffineMean& op, const Queue& queue) {
  const View logits = view_of(op.logits);
  if (logits.rows == 0) return;
  with_element(logits.element, [&](auto storage) {
    launch(mean_kernel<decltype(storage)>, dim3(unsigned(logits.cols)), dim3(kMeanWarps * kWarp), 0, queue.stream,
           op.phi, logits, floats(op.mean), float(op.share / double(logits.rows)));
  });
}

}  // namespace sluice::cuda
