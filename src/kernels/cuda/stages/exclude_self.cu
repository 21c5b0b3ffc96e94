// Exclusive self-attention on a GPU, on the walk of value_heads.cuh.
#include "kernels/ops/stages/exclude_self.h"

#include "kernels/cuda/stages/value_heads.cuh"
#include "kernels/formulas/exclude_self.h"

namespace sluice::cuda {
namespace {

static_assert(ExcludeSelfForward::kMostFeatures == kMostValueFeatures);

// Tensors of one op; d_out, d_y and d_v in the backward pass alone.
template <class S>
struct Tensors {
  Rows<S> y, v, out = {}, d_out = {}, d_y = {}, d_v = {};
  int64_t rows, KV, group, D;
  bool vector;
};

template <class S, bool kBackward>
struct Exclude {
  Tensors<S> t;

  template <class Slice>
  __device__ void at(int64_t row, int64_t g, bool valid) const {
    Slice v, sum;
    v.read(t.v.at(row, g * t.D), t.D, t.vector);
    const float square = v.dot(v), inverse = square > 0 ? 1 / square : 0;
    sum.clear();
    for (int64_t h = g * t.group; h < (g + 1) * t.group; ++h) {
      Slice y, d;
      y.read(t.y.at(row, h * t.D), t.D, t.vector);
      const float a = y.dot(v) * inverse;
      if constexpr (kBackward) {
        d.read(t.d_out.at(row, h * t.D), t.D, t.vector);
        const float b = d.dot(v) * inverse;
        sum.each([=](float s, float y, float d, float v) { return s + excluded_value_gradient(y, d, v, a, b); }, y, d,
                 v);
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
};

template <class S, bool kBackward>
void run(const Tensors<S>& t, cudaStream_t stream) {
  for_value_heads<S>(t.rows, t.KV, t.D, stream, Exclude<S, kBackward>{t});
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
