// Exclusive self-attention on the CPU: a row at a time, head by head.
#include "kernels/ops/stages/exclude_self.h"

#include "kernels/cpu/isa/rows.h"
#include "kernels/formulas/exclude_self.h"

namespace sluice::SLUICE_ISA {
namespace {

template <class S>
SLUICE_INLINE Acc<S> dot(const S* x, const S* y, int64_t D) {
  using A = Acc<S>;
  return sum_over<A>(D, [=](int64_t i, int64_t count)
                            SLUICE_INLINE_BODY { return load_some(x + i, count) * load_some(y + i, count); });
}

// 1 / |v|^2, 0 for a value of zero: nothing is along it.
template <class S>
SLUICE_INLINE Acc<S> inverse_square(const S* v, int64_t D) {
  const Acc<S> square = dot(v, v, D);
  return square > 0 ? 1 / square : 0;
}

template <class S>
void exclude_row(S* out, const S* y, const S* v, int64_t heads, int64_t group, int64_t D) {
  using A = Acc<S>;
  A inverse = 0;
  for (int64_t h = 0; h < heads; ++h, y += D, out += D) {
    if (h > 0 && h % group == 0) v += D;
    if (h % group == 0) inverse = inverse_square(v, D);
    const Vec<A> share(dot(y, v, D) * inverse);
    for_vectors<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      store_some(out + i, without_value(load_some(y + i, count), load_some(v + i, count), share), count);
    });
  }
}

// One key/value head and the `group` heads that read it. The gradient of v is summed in fp32 or f64 (`sum`, [D]).
template <class S>
void backward_group(S* d_y, S* d_v, const S* d, const S* y, const S* v, Acc<S>* sum, int64_t group, int64_t D) {
  using A = Acc<S>;
  using V = Vec<A>;
  const A inverse = inverse_square(v, D);
  for (int64_t h = 0; h < group; ++h, d_y += D, d += D, y += D) {
    const V a(dot(y, v, D) * inverse), b(dot(d, v, D) * inverse);
    for_vectors<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      const V slope = load_some(d + i, count), value = load_some(v + i, count);
      const V term = excluded_value_gradient(load_some(y + i, count), slope, value, a, b);
      store_some(sum + i, h == 0 ? term : load_some(sum + i, count) + term, count);
      store_some(d_y + i, without_value(slope, value, b), count);
    });
  }
  for_vectors<A>(
      D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY { store_some(d_v + i, load_some(sum + i, count), count); });
}

}  // namespace

template <>
void on(const ExcludeSelfForward& op) {
  const int64_t H = op.heads, C = op.y.cols();
  with_storage(op.y.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(op.y.rows(), C, [&](int64_t n) {
      exclude_row(row_of<S>(op.out, n), row_of<S>(op.y, n), row_of<S>(op.v, n), H, H / op.kv_heads, C / H);
    });
  });
}

template <>
void on(const ExcludeSelfBackward& op) {
  const ExcludeSelfForward& forward = op.forward;
  const int64_t KV = forward.kv_heads, group = forward.heads / KV, C = forward.y.cols(), D = C / forward.heads;
  with_storage(forward.y.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(forward.y.rows(), C, [&](int64_t n) {
      Acc<S> sum[ExcludeSelfForward::kMostFeatures];
      for (int64_t g = 0; g < KV; ++g) {
        const int64_t at = g * group * D;
        backward_group(row_of<S>(op.d_y, n) + at, row_of<S>(op.d_v, n) + g * D, row_of<S>(op.d_out, n) + at,
                       row_of<S>(forward.y, n) + at, row_of<S>(forward.v, n) + g * D, sum, group, D);
      }
    });
  });
}

}  // namespace sluice::SLUICE_ISA
