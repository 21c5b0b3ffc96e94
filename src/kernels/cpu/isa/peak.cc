// Arithmetic on registers alone: what no kernel of this instruction set can exceed.
//
// bf16 dot products and tiles are written as assembly: the set is compiled for processors without them, and
// kernels/cpu/peak.cc asks whether this one has them.
#include "kernels/cpu/isa/kernels.h"
#include "kernels/cpu/isa/vec.h"

namespace sluice::SLUICE_ISA {
namespace {

constexpr int kSums = SLUICE_VECTOR_BYTES == 64 ? 24 : 12;  // more than latency times units; they fit the registers

double multiply_add(int64_t rounds) {
  using V = Vec<float>;
  V sums[kSums], x(0.5f);
  const V y(0.25f);
#pragma GCC unroll 24
  for (int i = 0; i < kSums; ++i) sums[i] = V(float(i));
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (int i = 0; i < kSums; ++i) {
      asm volatile("" : "+x"(x.v));  // each product is made anew
      sums[i] += x * y;
    }
  }
  V total(0);
#pragma GCC unroll 24
  for (int i = 0; i < kSums; ++i) total += sums[i];
  asm volatile("" ::"x"(total.v));
  return double(rounds) * kSums * V::kLanes * 2;
}

#ifdef SLUICE_NATIVE_AVX512

double bf16_dot(int64_t rounds) {
  native::Floats sums[kSums] = {}, x = {}, y = {};
  for (int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 24
    for (int i = 0; i < kSums; ++i) asm volatile("vdpbf16ps %2, %1, %0" : "+v"(sums[i]) : "v"(x), "v"(y));
  return double(rounds) * kSums * 32 * 2;
}

double tiles(int64_t rounds) {
  struct {
    uint8_t palette = 1, first_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } const config;
  asm volatile("ldtilecfg %0" ::"m"(config));
  asm volatile("tilezero %tmm4\n tilezero %tmm5\n tilezero %tmm6\n tilezero %tmm7");
  for (int64_t round = 0; round < rounds; ++round)
    asm volatile(
        "tdpbf16ps %tmm6, %tmm4, %tmm0\n tdpbf16ps %tmm7, %tmm4, %tmm1\n"
        "tdpbf16ps %tmm6, %tmm5, %tmm2\n tdpbf16ps %tmm7, %tmm5, %tmm3");
  asm volatile("tilerelease");
  return double(rounds) * 4 * 16 * 16 * 32 * 2;
}

#endif

}  // namespace

double exercise(Arithmetic kind, int64_t rounds) {
  switch (kind) {
    case Arithmetic::kMultiplyAdd: return multiply_add(rounds);
#ifdef SLUICE_NATIVE_AVX512
    case Arithmetic::kBf16Dot: return bf16_dot(rounds);
    case Arithmetic::kTiles: return tiles(rounds);
#endif
    default: return 0;
  }
}

}  // namespace sluice::SLUICE_ISA
