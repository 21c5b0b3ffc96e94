// bfloat16 storage: the upper half of an fp32; arithmetic is done in fp32. Rounding is to nearest, ties to even.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define SLUICE_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define SLUICE_HOST_DEVICE inline
#endif

namespace sluice {

struct Bf16 {
  uint16_t bits;
};

SLUICE_HOST_DEVICE float to_float(Bf16 x) {
  const uint32_t wide = uint32_t{x.bits} << 16;
  float out;
  std::memcpy(&out, &wide, 4);
  return out;
}

SLUICE_HOST_DEVICE Bf16 to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {uint16_t(bits >> 16 | 0x40)};  // NaN stays NaN
  return {uint16_t((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

// The arithmetic type of a storage type.
template <class T>
struct AccumulatorOf {
  using type = T;
};
template <>
struct AccumulatorOf<Bf16> {
  using type = float;
};
template <class T>
using Acc = typename AccumulatorOf<T>::type;

}  // namespace sluice
