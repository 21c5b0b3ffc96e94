// How the kernels of this folder walk tensors: by storage type, by row, in spans shared among threads, in fixed chunks.
//
// Results never depend on the number of threads: elementwise work is split anyhow, sums over rows go through a number
// of chunks that follows from the shape alone and are combined in order.
#pragma once

#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/isa/vec.h"

// On a lambda: a body that must be inlined where it is called, so that a constant count removes the partial paths.
#define SLUICE_INLINE_BODY __attribute__((always_inline))

namespace sluice::SLUICE_ISA {

constexpr int64_t kParallelElements = 16384;  // below this, waking the threads costs more than they save
constexpr int64_t kSpan = 4096;               // elements of one piece of elementwise work
constexpr int64_t kRowChunks = 32;            // partial sums over rows

// Calls body(S{}) with the tensor's storage type S. Integer tensors have been refused before.
template <class Body>
SLUICE_INLINE void with_storage(DType type, Body body) {
  switch (type) {
    case DType::kF32: body(float{}); break;
    case DType::kBF16: body(Bf16{}); break;
    case DType::kF64: body(double{}); break;
    case DType::kI32: break;
  }
}

// The same for parameters, their gradients and state, which are f32 or f64.
template <class Body>
SLUICE_INLINE void with_parameter_type(DType type, Body body) {
  if (type == DType::kF64) body(double{});
  else body(float{});
}

template <class S>
SLUICE_INLINE S* row_of(const Tensor& t, int64_t row) {
  return static_cast<S*>(t.data) + row * t.stride;
}

SLUICE_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
SLUICE_INLINE int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
// How many pieces of `size` cover `count`.
SLUICE_INLINE constexpr int64_t pieces_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

// Runs body(row, first column, count) over [rows, cols], threaded; `flat` (every tensor contiguous): as one long row.
template <class Body>
SLUICE_INLINE void for_spans(int64_t rows, int64_t cols, bool flat, Body body) {
  if (flat) cols *= rows, rows = 1;
  const int64_t spans = (cols + kSpan - 1) / kSpan, pieces = rows * spans;
#pragma omp parallel for schedule(static) if (rows * cols >= kParallelElements)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t row = piece / spans, first = piece % spans * kSpan;
    body(row, first, min_of(kSpan, cols - first));
  }
}

// Runs body(row) over `rows` rows of `cols` elements, threaded.
template <class Body>
SLUICE_INLINE void for_rows(int64_t rows, int64_t cols, Body body) {
#pragma omp parallel for schedule(static) if (rows * cols >= kParallelElements)
  for (int64_t row = 0; row < rows; ++row) body(row);
}

// How many chunks a sum over `rows` rows is cut into.
SLUICE_INLINE int64_t row_chunks(int64_t rows) { return min_of(kRowChunks, (rows + 7) / 8); }

// Runs body(chunk, first row, end row), threaded.
template <class Body>
SLUICE_INLINE void for_row_chunks(int64_t rows, int64_t cols, Body body) {
  const int64_t chunks = row_chunks(rows);
#pragma omp parallel for schedule(dynamic) if (rows * cols >= kParallelElements)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) body(chunk, rows * chunk / chunks, rows * (chunk + 1) / chunks);
}

// out[c] (+)= sum over chunks of partial[chunk * step + c].
template <class A>
SLUICE_INLINE void combine_chunks(A* out, const A* partial, int64_t step, int64_t chunks, int64_t C, bool accumulate) {
  for_vectors<A>(C, [=](int64_t c, int64_t count) SLUICE_INLINE_BODY {
    Vec<A> total = accumulate ? load_some(out + c, count) : Vec<A>(0);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) total += load_some(partial + chunk * step + c, count);
    store_some(out + c, total, count);
  });
}

template <class A>
SLUICE_INLINE Vec<A> keep_first(Vec<A> x, A rest, int64_t count) {
  return count == Vec<A>::kLanes ? x : select(first_lanes<A>(count), x, Vec<A>(rest));
}

// Of a norm's gain, which may be null: 1.
template <class A>
SLUICE_INLINE Vec<A> gain_at(const A* gain, int64_t i, int64_t count) {
  return gain ? load_some(gain + i, count) : Vec<A>(1);
}

// Sum of term(i, count) over [0, n) in vectors; four running sums hide the addition's latency.
template <class A, class Term>
SLUICE_INLINE A sum_over(int64_t n, Term term) {
  constexpr int64_t lanes = Vec<A>::kLanes;
  Vec<A> a(0), b(0), c(0), d(0);
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a += term(i, lanes);
    b += term(i + lanes, lanes);
    c += term(i + 2 * lanes, lanes);
    d += term(i + 3 * lanes, lanes);
  }
  for (; i + lanes <= n; i += lanes) a += term(i, lanes);
  if (i < n) b += keep_first<A>(term(i, n - i), A(0), n - i);
  return sum_of((a + b) + (c + d));
}

// out = F(x), an activation of formulas/activation.h, for n elements side by side.
template <class F, class S>
void activation_forward_span(S* out, const S* x, int64_t n) {
  using A = Acc<S>;
  for_vectors<A>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    store_some(out + i, F::template forward<A>(load_some(x + i, count)), count);
  });
}

}  // namespace sluice::SLUICE_ISA
