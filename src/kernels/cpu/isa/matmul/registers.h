// The innermost kernel of matrix products on vector registers, and the slivers that it reads.
//
// kRows x 2 vectors of C stay in registers over a chunk of the sum: at 6 x 16 (AVX2) 8 loads for 12 multiply-adds, at
// 14 x 32 (AVX-512) 16 for 28, which two load ports outrun. Its slivers packed, it reaches 95 to 99% of the registers'
// peak.
#pragma once

#include "kernels/cpu/isa/matmul/packing.h"

namespace sluice::SLUICE_ISA {

// For storage type S.
template <class S>
struct Registers {
  using Sum = Acc<S>;
  using V = Vec<Sum>;
  static constexpr int kRows = SLUICE_VECTOR_BYTES == 64 ? 14 : 6;  // 32 registers or 16
  static constexpr int kWide = 2 * V::kLanes;
  static constexpr int64_t kInner = SLUICE_VECTOR_BYTES == 64 ? 768 : 384;  // a longer chunk visits C less, but less
  static constexpr int64_t kStepUnit = 8;                                   // of op(A) fits
  static constexpr int64_t kRowStep = kInner + 16;  // of rows that are packed as they are: not a power of two

  // Of op(A): whole rows, or all rows of a step side by side.
  struct Left {
    const Sum* data;
    bool along;
  };

  static int64_t left_sliver(const Operand<S>& x, int64_t steps) { return kRows * (x.step == 1 ? kRowStep : steps); }

  static void pack_left(const Operand<S>& x, int64_t rows, int64_t steps, Sum* packed) {
    if (x.step != 1) return pack_steps<kRows>(x, rows, steps, packed);
    for (int64_t i = 0; i < rows; i += kRows, packed += kRows * kRowStep)
      pack_rows<kRows>(x.from(i, 0), rows - i, steps, packed, kRowStep);
  }
  static void pack_right(const Operand<S>& x, int64_t columns, int64_t steps, Sum* packed) {
    if (x.step != 1) return pack_steps<kWide>(x, columns, steps, packed);
    for (int64_t j = 0; j < columns; j += kWide, packed += kWide * steps)
      pack_transposed<kWide>(x.from(j, 0), columns - j, steps, packed);
  }
  // The sliver that begins at row i of what pack_left() packed.
  static Left left(const Operand<S>& x, const Sum* packed, int64_t i, int64_t steps) {
    return {packed + i / kRows * left_sliver(x, steps), x.step == 1};
  }

  // Calls add(row, sums) with the kWide sums of each of `rows` rows.
  template <class Add>
  static SLUICE_INLINE void multiply(const Left& a, int64_t rows, const Sum* b, int64_t steps, Add add) {
    if (a.along) multiply_rows<true, kRows>(a.data, rows, b, steps, add);
    else multiply_rows<false, kRows>(a.data, rows, b, steps, add);
  }

 private:
  // The kernel for `rows` rows, or the next even number of them.
  template <bool kAlong, int kM, class Add>
  static SLUICE_INLINE void multiply_rows(const Sum* a, int64_t rows, const Sum* b, int64_t steps, Add add) {
    if constexpr (kM > 2) {
      if (rows <= kM - 2) return multiply_rows<kAlong, kM - 2>(a, rows, b, steps, add);
    }
    V sums[kM][2];
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i) sums[i][0] = sums[i][1] = V(0);
#pragma GCC unroll 2
    for (int64_t k = 0; k < steps; ++k, a += kAlong ? 1 : kRows, b += kWide) {
      const V left = load(b), right = load(b + V::kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kM; ++i) {
        const V x(kAlong ? a[i * kRowStep] : a[i]);
        sums[i][0] += x * left;
        sums[i][1] += x * right;
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i)
      if (i < rows) add(i, sums[i]);
  }
};

}  // namespace sluice::SLUICE_ISA
