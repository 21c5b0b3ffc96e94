// MovingAverage on the CPU.
#include "kernels/ops/moving_average.h"

#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {
namespace {

template <class A>
void update(const MovingAverage& op) {
  const A keep = A(op.keep), add = A(1 - op.keep);
  for_spans(1, op.average.elements(), true, [&](int64_t, int64_t first, int64_t n) {
    A* average = static_cast<A*>(op.average.data) + first;
    const A* x = static_cast<const A*>(op.x.data) + first;
    for_vectors<A>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      const Vec<A> old = load_some(average + i, count), now = load_some(x + i, count);
      store_some(average + i, Vec<A>(keep) * old + Vec<A>(add) * now, count);
    });
  });
}

}  // namespace

template <>
void on(const MovingAverage& op) {
  with_parameter_type(op.average.dtype, [&](auto tag) { update<decltype(tag)>(op); });
}

}  // namespace sluice::SLUICE_ISA
