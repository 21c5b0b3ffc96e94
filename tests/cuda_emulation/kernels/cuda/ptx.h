// Stands in for src/kernels/cuda/ptx.h in the emulation: the same instructions, from the fragment layouts that are
// written down there.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulator.h"
#include "kernels/types/bf16.h"

namespace sluice::cuda {
namespace emulated {

// Element `half` (0 the lower) of a register of two bf16.
inline float bf16_half(uint32_t bits, int half) { return to_float(Bf16{uint16_t(half ? bits >> 16 : bits)}); }

inline float as_tf32(uint32_t bits) {
  bits &= 0xffffe000u;  // the hardware reads no more
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

template <int kRegisters>
emulation::Deposit deposit(const uint32_t (&a)[4], const uint32_t (&b)[kRegisters]) {
  emulation::Deposit out{};
  for (int i = 0; i < 4; ++i) out.words[i] = a[i];
  for (int i = 0; i < kRegisters; ++i) out.words[4 + i] = b[i];
  return out;
}

// Toward zero, as the tensor cores' sums are.
inline float truncated(double x) {
  const float rounded = float(x);
  return std::fabs(double(rounded)) > std::fabs(x) ? std::nextafter(rounded, 0.0f) : rounded;
}

// c[r] += sum over k of a(row, k) b(k, col), for the four elements that this lane owns.
template <class A, class B>
void multiply(float (&c)[4], int K, A a, B b) {
  const int g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (int r = 0; r < 4; ++r) {
    const int row = g + 8 * (r / 2), col = 2 * t + r % 2;
    double sum = c[r];
    for (int k = 0; k < K; ++k) sum += double(a(row, k)) * double(b(k, col));
    c[r] = truncated(sum);
  }
}

// r[i]: from matrix i of the rows that the lanes named.
template <int kMatrices, bool kTransposed>
void load_matrices(uint32_t (&r)[kMatrices], const void* row) {
  emulation::Deposit mine{};
  mine.pointer = row;
  const emulation::Deposit* all = emulation::exchange(mine);
  const int g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (int i = 0; i < kMatrices; ++i) {
    uint16_t pair[2];
    for (int half = 0; half < 2; ++half) {
      const int at_row = kTransposed ? 2 * t + half : g, at_col = kTransposed ? g : 2 * t + half;
      pair[half] = static_cast<const uint16_t*>(all[8 * i + at_row].pointer)[at_col];
    }
    r[i] = uint32_t(pair[1]) << 16 | pair[0];
  }
}

}  // namespace emulated

inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const emulation::Deposit* all = emulation::exchange(emulated::deposit(a, b));
  emulated::multiply(
      c, 16,
      [=](int row, int k) {
        return emulated::bf16_half(all[row % 8 * 4 + k % 8 / 2].words[row / 8 + 2 * (k / 8)], k % 2);
      },
      [=](int k, int col) { return emulated::bf16_half(all[col * 4 + k % 8 / 2].words[4 + k / 8], k % 2); });
}

inline void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const emulation::Deposit* all = emulation::exchange(emulated::deposit(a, b));
  emulated::multiply(
      c, 8, [=](int row, int k) { return emulated::as_tf32(all[row % 8 * 4 + k % 4].words[row / 8 + 2 * (k / 4)]); },
      [=](int k, int col) { return emulated::as_tf32(all[col * 4 + k % 4].words[4 + k / 4]); });
}

// Round to nearest, ties away from zero.
inline uint32_t tf32_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits & 0xffffe000u;
  return (bits + 0x1000u) & 0xffffe000u;
}

inline uint32_t pack_bf16(float low, float high) { return uint32_t{to_bf16(high).bits} << 16 | to_bf16(low).bits; }

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) { emulated::load_matrices<4, false>(r, row); }
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) { emulated::load_matrices<4, true>(r, row); }
inline void ldmatrix_x2(uint32_t (&r)[2], const void* row) { emulated::load_matrices<2, false>(r, row); }
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) { emulated::load_matrices<2, true>(r, row); }

inline void copy_async_16(void* shared, const void* global, bool valid) {
  emulation::copy_later(shared, global, valid);
}
inline void copy_async_commit() { emulation::commit_copies(); }
template <int N>
void copy_async_wait() {
  emulation::wait_for_copies(N);
}

}  // namespace sluice::cuda
