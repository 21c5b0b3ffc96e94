// Products of few rows, a decoder's: dot products of what lies in memory, of which nothing is packed.
#pragma once

#include "kernels/cpu/isa/matmul/product.h"

namespace sluice::SLUICE_ISA {

constexpr int64_t kFewRows = 48;  // below it packing op(B) costs more than it brings

SLUICE_INLINE bool has_few_rows(const Matmul& op) {
  return op.out.rows() < kFewRows && !op.transpose_a && op.transpose_b;
}

constexpr int kDotRows = 3, kDotColumns = 4;

// Dot products of kM rows of op(A) and kDotColumns of op(B), whose elements lie side by side. Pointers may repeat.
template <int kM, class S>
SLUICE_INLINE void dot_block(Acc<S> (&out)[kDotRows][kDotColumns], const S* const (&a)[kDotRows],
                             const S* const (&b)[kDotColumns], int64_t K) {
  using V = Vec<Acc<S>>;
  V sums[kM][kDotColumns];
#pragma GCC unroll 3
  for (int i = 0; i < kM; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kDotColumns; ++j) sums[i][j] = V(0);
  for_vectors<Acc<S>>(K, [&](int64_t k, int64_t count) SLUICE_INLINE_BODY {
    V right[kDotColumns];
#pragma GCC unroll 4
    for (int j = 0; j < kDotColumns; ++j) right[j] = load_some(b[j] + k, count);
#pragma GCC unroll 3
    for (int i = 0; i < kM; ++i) {
      const V left = load_some(a[i] + k, count);
#pragma GCC unroll 4
      for (int j = 0; j < kDotColumns; ++j) sums[i][j] += left * right[j];
    }
  });
#pragma GCC unroll 3
  for (int i = 0; i < kM; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kDotColumns; ++j) out[i][j] = sum_of(sums[i][j]);
}

// C for op(A) of few rows and op(B) of rows that are its columns.
template <class S, class Out>
void multiply_few(const Matmul& args) {
  using A = Acc<S>;
  const int64_t M = args.out.rows(), N = args.out.cols(), K = args.a.cols();
#pragma omp parallel for schedule(static) if (M * N * K > kSmallProduct)
  for (int64_t block = 0; block < pieces_of(N, kDotColumns); ++block) {
    const int64_t column = block * kDotColumns, columns = min_of(kDotColumns, N - column);
    const S* b[kDotColumns];
    for (int64_t j = 0; j < kDotColumns; ++j) b[j] = row_of<const S>(args.b, column + min_of(j, columns - 1));
    for (int64_t row = 0; row < M; row += kDotRows) {
      const int64_t rows = min_of(kDotRows, M - row);
      const S* a[kDotRows];
      for (int64_t i = 0; i < kDotRows; ++i) a[i] = row_of<const S>(args.a, row + min_of(i, rows - 1));
      A sums[kDotRows][kDotColumns];
      if (rows == 1) dot_block<1>(sums, a, b, K);
      else dot_block<kDotRows>(sums, a, b, K);
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) {
          Out* const out = row_of<Out>(args.out, row + i) + column + j;
          A sum = sums[i][j];
          if (args.bias) sum += static_cast<const A*>(args.bias.data)[column + j];
          if (args.accumulate) sum += load_one(out);
          store_one(out, sum);
        }
    }
  }
}

}  // namespace sluice::SLUICE_ISA
