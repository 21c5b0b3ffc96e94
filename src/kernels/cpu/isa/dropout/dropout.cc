// Dropout on the CPU: each value is read and written once, 64 of a row at a time.
//
// Floor: 2 sizes of a value over the memory's bandwidth, 8 bytes in fp32. Draws cost about as much again (dropped.h); a
// token of GPT-2 124M has 37,632 values to drop in a step, forward and backward, and 0.8e9 operations.
#include "kernels/ops/dropout.h"

#include "kernels/cpu/isa/dropped.h"
#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {
namespace {

template <class S>
void drop_row(S* out, const S* x, int64_t C, const DropoutDraw& draw, int64_t row, Acc<S> scale) {
  using A = Acc<S>;
  for (int64_t first = 0; first < C; first += 64) {
    const uint64_t dropped = dropped_of_64(draw, uint32_t(row), uint32_t(first / kDropoutGroup));
    for_vectors<A>(min_of(64, C - first), [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      const Vec<A> kept = load_some(x + first + i, count) * Vec<A>(scale);
      store_some(out + first + i, select(lanes_of<A>(dropped >> i), Vec<A>(0), kept), count);
    });
  }
}

}  // namespace

template <>
void on(const Dropout& op) {
  const int64_t N = op.x.rows(), C = op.x.cols(), T = N / (op.mask.keys.elements() / 2);
  const DropoutRate rate = dropout_rate(op.mask.probability);
  const int32_t* keys = static_cast<const int32_t*>(op.mask.keys.data);
  with_storage(op.x.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(N, C, [&](int64_t n) {
      const DropoutDraw draw = {dropout_key_of(keys, n / T), dropout_stream(op.mask.place, 0), rate.below};
      drop_row(row_of<S>(op.out, n), row_of<S>(op.x, n), C, draw, n % T, Acc<S>(rate.scale));
    });
  });
}

}  // namespace sluice::SLUICE_ISA
