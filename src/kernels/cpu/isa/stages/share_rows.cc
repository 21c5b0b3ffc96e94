// Rows of one sequence for all, on the CPU. Row by row, threaded: each thread has rows of its own, and what a row is
// summed from is added in the order of the sequences.
#include "kernels/ops/stages/share_rows.h"

#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {

template <>
void on(const ShareRowsForward& op) {
  const int64_t T = op.x.rows(), C = op.x.cols();
  with_storage(op.x.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(op.out.rows(), C,
             [&](int64_t n) { __builtin_memcpy(row_of<S>(op.out, n), row_of<S>(op.x, n % T), size_t(C) * sizeof(S)); });
  });
}

template <>
void on(const ShareRowsBackward& op) {
  const int64_t T = op.d_x.rows(), C = op.d_x.cols(), B = op.d_out.rows() / T;
  with_storage(op.d_x.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(T, (B + 1) * C, [&](int64_t t) {
      S* d_x = row_of<S>(op.d_x, t);
      for_vectors<Acc<S>>(C, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
        auto sum = load_some(d_x + i, count);
        for (int64_t b = 0; b < B; ++b) sum += load_some(row_of<S>(op.d_out, b * T + t) + i, count);
        store_some(d_x + i, sum, count);
      });
    });
  });
}

}  // namespace sluice::SLUICE_ISA
