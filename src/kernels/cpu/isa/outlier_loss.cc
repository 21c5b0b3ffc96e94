// OutlierLoss on the CPU: rows in fixed chunks, whose sums are added up in order.
#include "kernels/ops/outlier_loss.h"

#include "kernels/cpu/isa/rows.h"
#include "kernels/formulas/outlier_loss.h"

namespace sluice::SLUICE_ISA {
namespace {

// Adds the gradient to d and returns the sum of the values.
template <class S>
Acc<S> add_row(S* d, const S* x, int64_t C, Acc<S> inverse, Acc<S> grad_scale) {
  using V = Vec<Acc<S>>;
  return sum_over<Acc<S>>(C, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    const V value = load_some(x + i, count);
    store_some(d + i, load_some(d + i, count) + V(grad_scale) * outlier_slope(value, V(inverse)), count);
    return outlier_value(value, V(inverse));
  });
}

}  // namespace

template <>
void on(const OutlierLoss& op) {
  const int64_t N = op.x.rows(), C = op.x.cols();
  with_storage(op.x.dtype, [&](auto tag) {
    using S = decltype(tag);
    using A = Acc<S>;
    A partial[kRowChunks];
    A* sums = partial;
    const A inverse = A(1 / op.limit), grad_scale = A(op.grad_scale);
    for_row_chunks(N, C, [&](int64_t chunk, int64_t first, int64_t end) {
      A sum = 0;
      for (int64_t n = first; n < end; ++n)
        sum += add_row<S>(row_of<S>(op.d_x, n), row_of<S>(op.x, n), C, inverse, grad_scale);
      sums[chunk] = sum;
    });
    A total = 0;
    for (int64_t chunk = 0; chunk < row_chunks(N); ++chunk) total += partial[chunk];
    *static_cast<A*>(op.loss.data) += A(op.value_scale) * total;
  });
}

}  // namespace sluice::SLUICE_ISA
