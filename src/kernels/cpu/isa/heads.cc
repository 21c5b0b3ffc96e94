// What is done to query and key heads before attention: rotary positions.
#include "kernels/cpu/isa/rows.h"
#include "kernels/formulas/rope.h"

namespace sluice::SLUICE_ISA {
namespace {

// `cosines` [half], then as many sines.
template <class S>
void rope_row(S* x, const Acc<S>* cosines, bool inverse, int64_t heads, int64_t half) {
  using A = Acc<S>;
  using V = Vec<A>;
  for (int64_t h = 0; h < heads; ++h, x += 2 * half)
    for_vectors<A>(half, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      V a = load_some(x + i, count), b = load_some(x + half + i, count);
      const V sine = load_some(cosines + half + i, count);
      rotate(a, b, load_some(cosines + i, count), inverse ? V(0) - sine : sine);
      store_some(x + i, a, count);
      store_some(x + half + i, b, count);
    });
}

}  // namespace

void rope(const Rope& args) {
  const int64_t N = args.x.rows(), C = args.x.cols(), D = args.table.cols();
  with_storage(args.x.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(N, C, [&](int64_t n) {
      const Acc<S>* angles = row_of<Acc<S>>(args.table, args.first_position + n % args.T);
      rope_row(row_of<S>(args.x, n), angles, args.inverse, C / D, D / 2);
    });
  });
}

}  // namespace sluice::SLUICE_ISA
