// Small dense products for tiles that sit in cache: C[M,N] (+)= A[M,K] B[K,N].
//
// B and C rows are contiguous; A's element (m, k) is a[m * a_row + k * a_col], so A may be transposed. N is a multiple
// of the vector width. A block of kRows x 2 vectors of C stays in registers over the whole of K.
#pragma once

#include "kernels/cpu/isa/vec.h"

namespace sluice::SLUICE_ISA {

template <class T>
struct TileGemm {
  const T* a;
  int64_t a_row, a_col;
  const T* b;
  int64_t ldb;
  T* c;
  int64_t ldc;
  bool accumulate;
};

template <int kRows, int kVectors, class T>
SLUICE_INLINE void tile_gemm_block(const TileGemm<T>& g, int64_t m, int64_t n, int64_t K) {
  using V = Vec<T>;
  constexpr int lanes = V::kLanes;
  V sum[kRows][kVectors];
  T* c = g.c + m * g.ldc + n;
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) sum[i][j] = g.accumulate ? load(c + i * g.ldc + j * lanes) : V(0);
  const T* a = g.a + m * g.a_row;
  const T* b = g.b + n;
  for (int64_t k = 0; k < K; ++k, a += g.a_col, b += g.ldb) {
    V row[kVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) row[j] = load(b + j * lanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const V x(a[i * g.a_row]);
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) sum[i][j] += x * row[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) store(c + i * g.ldc + j * lanes, sum[i][j]);
}

template <int kVectors, class T>
inline void tile_gemm_columns(const TileGemm<T>& g, int64_t M, int64_t n, int64_t K) {
  constexpr int kRows = SLUICE_VECTOR_BYTES == 64 ? 8 : 4;  // 32 registers or 16
  int64_t m = 0;
  for (; m + kRows <= M; m += kRows) tile_gemm_block<kRows, kVectors>(g, m, n, K);
  if (kRows == 8 && m + 4 <= M) tile_gemm_block<4, kVectors>(g, m, n, K), m += 4;
  if (m + 2 <= M) tile_gemm_block<2, kVectors>(g, m, n, K), m += 2;
  if (m < M) tile_gemm_block<1, kVectors>(g, m, n, K);
}

template <class T>
inline void tile_gemm(const TileGemm<T>& g, int64_t M, int64_t N, int64_t K) {
  constexpr int64_t lanes = Vec<T>::kLanes;
  int64_t n = 0;
  for (; n + 2 * lanes <= N; n += 2 * lanes) tile_gemm_columns<2>(g, M, n, K);
  if (n < N) tile_gemm_columns<1>(g, M, n, K);
}

}  // namespace sluice::SLUICE_ISA
