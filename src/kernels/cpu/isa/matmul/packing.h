// Operands of matrix products, brought into slivers that the innermost kernel reads from end to end, in the accumulator
// type: transposition, stride, storage type and edges are the packing's matter.
#pragma once

#include "kernels/cpu/isa/rows.h"
#include "kernels/cpu/isa/transpose.h"

namespace sluice::SLUICE_ISA {

// One operand as the product sees it: element (i, k), i a row of op(A) or a column of op(B), k a step of the sum, at
// data[i * stride + k * step]; one of the two is 1.
template <class S>
struct Operand {
  const S* data;
  int64_t stride, step;

  Operand(const Tensor& x, bool along_rows)
      : data(static_cast<const S*>(x.data)), stride(along_rows ? x.stride : 1), step(along_rows ? 1 : x.stride) {}
  Operand from(int64_t i, int64_t k) const {
    Operand at = *this;
    at.data += i * stride + k * step;
    return at;
  }
};

// out[k][i] = x(i, k), i < kWide, whose steps lie side by side; zeros from `count` on.
template <int kWide, class S>
void pack_transposed(const Operand<S>& x, int64_t count, int64_t K, Acc<S>* out) {
  using V = Vec<Acc<S>>;
  constexpr int64_t lanes = V::kLanes;
  static_assert(kWide % lanes == 0);
  for (int64_t k = 0; k < K; k += lanes) {
    const int64_t steps = min_of(lanes, K - k);
    for (int64_t i = 0; i < kWide; i += lanes) {
      V block[lanes];
#pragma GCC unroll 16
      for (int64_t j = 0; j < lanes; ++j)
        block[j] = i + j < count ? load_some(x.data + (i + j) * x.stride + k, steps) : V(0);
      transpose(block);
#pragma GCC unroll 16
      for (int64_t j = 0; j < lanes; ++j)
        if (j < steps) store(out + (k + j) * kWide + i, block[j]);
    }
  }
}

// The same where x's rows of one step lie side by side, for as many slivers as hold `count`, K * kWide apart: a row
// whose stride is a power of two is read a whole cache line at a time, so that its lines are done with before others
// take their places.
template <int kWide, class S>
void pack_steps(const Operand<S>& x, int64_t count, int64_t K, Acc<S>* out) {
  using V = Vec<Acc<S>>;
  constexpr int64_t lanes = V::kLanes;
  for (int64_t k = 0; k < K; ++k, out += kWide) {
    const S* from = x.data + k * x.step;
    Acc<S>* to = out;
    int64_t left = count;
    for (; left >= kWide; left -= kWide, from += kWide, to += kWide * K)
#pragma GCC unroll 4
      for (int64_t i = 0; i < kWide; i += lanes)
        store_some(to + i, load_some(from + i, min_of(lanes, kWide - i)), min_of(lanes, kWide - i));
    if (left > 0)
      for (int64_t i = 0; i < kWide; i += lanes) {
        const int64_t given = min_of(lanes, left - i);
        store_some(to + i, given > 0 ? load_some(from + i, given) : V(0), min_of(lanes, kWide - i));
      }
  }
}

// out[i * row_step + k] = x(i, k), i < kWide, whose steps lie side by side; zeros from `count` on.
template <int kWide, class S>
void pack_rows(const Operand<S>& x, int64_t count, int64_t K, Acc<S>* out, int64_t row_step) {
  using V = Vec<Acc<S>>;
  for (int64_t i = 0; i < kWide; ++i, out += row_step)
    for_vectors<Acc<S>>(K, [&](int64_t k, int64_t n) SLUICE_INLINE_BODY {
      store_some(out + k, i < count ? load_some(x.data + i * x.stride + k, n) : V(0), n);
    });
}

}  // namespace sluice::SLUICE_ISA
