// Mixes on the CPU. The gradients of learned shares are summed per chunk of rows in the workspace [chunk][x, y], then
// over chunks in order.
#include "kernels/ops/stages/mix.h"

#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {
namespace {

template <class A>
SLUICE_INLINE A share_of(const Tensor& learned, double fixed) {
  return learned.data ? *static_cast<const A*>(learned.data) : A(fixed);
}

template <class S>
struct MixRow {
  S *d_x, *d_y;
  const S *d, *x, *y;
  bool add;
  Vec<Acc<S>> a, b;
};

// kShares: sums[0] += d . x, sums[1] += d . y
template <bool kShares, class S>
void backward_row(const MixRow<S>& row, Acc<S>* sums, int64_t C) {
  using A = Acc<S>;
  using V = Vec<A>;
  if constexpr (kShares) {
    sums[0] += sum_over<A>(C, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      return load_some(row.d + i, count) * load_some(row.x + i, count);
    });
    sums[1] += sum_over<A>(C, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      return load_some(row.d + i, count) * load_some(row.y + i, count);
    });
  }
  for_vectors<A>(C, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    const V slope = load_some(row.d + i, count);  // before d_x is written: it may be d
    V d_y = row.b * slope;
    if (row.add) d_y += load_some(row.d_y + i, count);
    store_some(row.d_y + i, d_y, count);
    store_some(row.d_x + i, row.a * slope, count);
  });
}

template <class S>
void mix_backward(const MixBackward& op) {
  using A = Acc<S>;
  const MixForward& forward = op.forward;
  const int64_t N = op.d_out.rows(), C = op.d_out.cols();
  const MixShares& shares = forward.shares;
  const Vec<A> a(share_of<A>(shares.x, shares.x_fixed)), b(share_of<A>(shares.y, shares.y_fixed));
  A* partial = static_cast<A*>(op.workspace.data);
  for_row_chunks(N, C, [&](int64_t chunk, int64_t first, int64_t end) {
    A sums[2] = {0, 0};
    for (int64_t n = first; n < end; ++n) {
      const MixRow<S> row = {row_of<S>(op.d_x, n),
                             row_of<S>(op.d_y, n),
                             row_of<S>(op.d_out, n),
                             row_of<S>(forward.x, n),
                             row_of<S>(forward.y, n),
                             op.add_to_d_y,
                             a,
                             b};
      if (shares.x.data) backward_row<true>(row, sums, C);
      else backward_row<false>(row, sums, C);
    }
    if (shares.x.data) partial[2 * chunk] = sums[0], partial[2 * chunk + 1] = sums[1];
  });
  if (!shares.x.data) return;
  combine_chunks(static_cast<A*>(op.d_x_share.data), partial, 2, row_chunks(N), 1, op.accumulate);
  combine_chunks(static_cast<A*>(op.d_y_share.data), partial + 1, 2, row_chunks(N), 1, op.accumulate);
}

}  // namespace

template <>
void on(const MixForward& op) {
  const bool flat = op.out.contiguous() && op.x.contiguous() && op.y.contiguous();
  with_storage(op.x.dtype, [&](auto tag) {
    using S = decltype(tag);
    using A = Acc<S>;
    const Vec<A> a(share_of<A>(op.shares.x, op.shares.x_fixed)), b(share_of<A>(op.shares.y, op.shares.y_fixed));
    for_spans(op.x.rows(), op.x.cols(), flat, [&](int64_t row, int64_t first, int64_t n) {
      S* out = row_of<S>(op.out, row) + first;
      const S *x = row_of<S>(op.x, row) + first, *y = row_of<S>(op.y, row) + first;
      for_vectors<A>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
        store_some(out + i, a * load_some(x + i, count) + b * load_some(y + i, count), count);
      });
    });
  });
}

template <>
void on(const MixBackward& op) {
  with_storage(op.d_out.dtype, [&](auto tag) { mix_backward<decltype(tag)>(op); });
}

}  // namespace sluice::SLUICE_ISA
