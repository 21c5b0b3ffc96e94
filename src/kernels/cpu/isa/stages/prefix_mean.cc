// Causal means on the CPU: threads share sequences and columns, each walks down the rows with its sums at hand.
#include "kernels/ops/stages/prefix_mean.h"

#include "kernels/cpu/isa/rows.h"
#include "kernels/formulas/prefix_mean.h"

namespace sluice::SLUICE_ISA {
namespace {

constexpr int64_t kColumns = 128;  // of one piece of work

// body(sequence, first column, columns)
template <class Body>
SLUICE_INLINE void for_pieces(const Tensor& x, int64_t T, Body body) {
  const int64_t C = x.cols(), strips = pieces_of(C, kColumns), pieces = x.rows() / T * strips;
#pragma omp parallel for schedule(static) if (x.rows() * C >= kParallelElements)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t first = piece % strips * kColumns;
    body(piece / strips, first, min_of(kColumns, C - first));
  }
}

// Where the document of row `row` begins in its sequence.
SLUICE_INLINE int64_t start_of(const Tensor& first_key, int64_t row) {
  return first_key.data ? static_cast<const int32_t*>(first_key.data)[row] : 0;
}

template <class A>
SLUICE_INLINE void fill(A* sum, const A* from, int64_t n) {
  for_vectors<A>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    store_some(sum + i, from ? load_some(from + i, count) : Vec<A>(0), count);
  });
}

template <class S>
void mean_piece(const PrefixMean& op, int64_t b, int64_t first, int64_t n) {
  using A = Acc<S>;
  using V = Vec<A>;
  A space[kColumns];
  A* sum = space;
  A* kept = op.sums.data ? row_of<A>(op.sums, b) + first : nullptr;
  fill(sum, op.first_position > 0 ? kept : nullptr, n);
  for (int64_t t = 0; t < op.T; ++t) {
    const int64_t row = b * op.T + t, start = start_of(op.first_key, row);
    if (t > 0 && start == t) fill<A>(sum, nullptr, n);
    const V share(prefix_share<A>(op.first_position + t, start, op.divisor));
    const S* x = row_of<S>(op.x, row) + first;
    S* out = row_of<S>(op.out, row) + first;
    for_vectors<A>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      const V total = load_some(sum + i, count) + load_some(x + i, count);
      store_some(sum + i, total, count);
      store_some(out + i, share * total, count);
    });
  }
  if (kept) fill<A>(kept, sum, n);
}

template <class S>
void backward_piece(const PrefixMeanBackward& op, int64_t b, int64_t first, int64_t n) {
  using A = Acc<S>;
  using V = Vec<A>;
  A space[kColumns];
  A* sum = space;
  fill<A>(sum, nullptr, n);
  for (int64_t t = op.T; t-- > 0;) {
    const int64_t row = b * op.T + t, start = start_of(op.first_key, row);
    const V share(prefix_share<A>(t, start, op.divisor));
    const S* d = row_of<S>(op.d_out, row) + first;
    S* d_x = row_of<S>(op.d_x, row) + first;
    for_vectors<A>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      const V total = load_some(sum + i, count) + share * load_some(d + i, count);
      store_some(sum + i, total, count);
      store_some(d_x + i, load_some(d_x + i, count) + total, count);
    });
    if (start == t) fill<A>(sum, nullptr, n);  // the row before is of another document
  }
}

}  // namespace

template <>
void on(const PrefixMean& op) {
  with_storage(op.x.dtype, [&](auto tag) {
    for_pieces(op.x, op.T, [&](int64_t b, int64_t first, int64_t n) { mean_piece<decltype(tag)>(op, b, first, n); });
  });
}

template <>
void on(const PrefixMeanBackward& op) {
  with_storage(op.d_out.dtype, [&](auto tag) {
    for_pieces(op.d_out, op.T,
               [&](int64_t b, int64_t first, int64_t n) { backward_piece<decltype(tag)>(op, b, first, n); });
  });
}

}  // namespace sluice::SLUICE_ISA
