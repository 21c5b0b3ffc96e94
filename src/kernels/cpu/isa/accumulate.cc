// Accumulate on the CPU.
#include "kernels/ops/accumulate.h"

#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {

template <>
void on(const Accumulate& op) {
  const bool flat = op.out.contiguous() && op.x.contiguous();
  with_storage(op.x.dtype, [&](auto tag) {
    using S = decltype(tag);
    using A = Acc<S>;
    for_spans(op.x.rows(), op.x.cols(), flat, [&](int64_t row, int64_t first, int64_t n) {
      S* out = row_of<S>(op.out, row) + first;
      const S* x = row_of<S>(op.x, row) + first;
      for_vectors<A>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
        store_some(out + i, load_some(out + i, count) + load_some(x + i, count), count);
      });
    });
  });
}

}  // namespace sluice::SLUICE_ISA
