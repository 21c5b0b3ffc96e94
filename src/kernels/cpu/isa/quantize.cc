// Simulated quantization, and the ranges of rows that its grids are laid over.
#include "kernels/formulas/quantize.h"

#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {
namespace {

template <class S>
void fake_quantize_span(S* out, const S* x, const QuantizationGrid<Acc<S>>& shared, int64_t n) {
  const QuantizationGrid<Acc<S>> grid = shared;
  for_vectors<Acc<S>>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    store_some(out + i, fake_quantized(load_some(x + i, count), grid), count);
  });
}

// Lanes beyond the row hold its first element. x - x is 0 for finite x and NaN for all others: their sum spoils both
// ends.
template <class S>
void range_of_row(Acc<S>* out, const S* x, int64_t n) {
  using V = Vec<Acc<S>>;
  const Acc<S> first = load_one(x);
  V least(first), greatest(first), spoilt(0);
  for_vectors<Acc<S>>(n, [&](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    const V v = keep_first(load_some(x + i, count), first, count);
    least = min_of(least, v);
    greatest = max_of(greatest, v);
    spoilt += v - v;
  });
  Acc<S> low = least[0], high = greatest[0];
  for (int lane = 1; lane < V::kLanes; ++lane) {
    low = least[lane] < low ? least[lane] : low;
    high = greatest[lane] > high ? greatest[lane] : high;
  }
  const Acc<S> finite = sum_of(spoilt);
  out[0] = low + finite;
  out[1] = high + finite;
}

}  // namespace

template <>
void on(const FakeQuantize& op) {
  const Tensor &x = op.x, &out = op.out;
  const bool per_row = op.scale.elements() > 1;
  const bool flat = !per_row && x.stride == x.cols() && out.stride == out.cols();
  with_storage(x.dtype, [&](auto tag) {
    using S = decltype(tag);
    using A = Acc<S>;
    const A* scale = static_cast<const A*>(op.scale.data);
    for_spans(x.rows(), x.cols(), flat, [&](int64_t row, int64_t first, int64_t n) {
      const auto grid = quantization_grid<A>(scale[per_row ? row : 0], A(op.low), A(op.high));
      fake_quantize_span(row_of<S>(out, row) + first, row_of<S>(x, row) + first, grid, n);
    });
  });
}

template <>
void on(const RowRanges& op) {
  const Tensor &out = op.out, &x = op.x;
  with_storage(x.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(x.rows(), x.cols(), [&](int64_t n) { range_of_row(row_of<Acc<S>>(out, n), row_of<S>(x, n), x.cols()); });
  });
}

}  // namespace sluice::SLUICE_ISA
