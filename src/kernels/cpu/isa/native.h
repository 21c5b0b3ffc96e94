// The register operations for which the compiler's generic vector code is poor: partial loads and stores, 16-bit
// storage, scaling by a power of two. Intrinsics where this instruction set has the instruction, else portable code;
// vec.h gives them their public form. Intrinsics are macros or always-inline functions: none becomes a symbol that is
// shared.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/types/bf16.h"

#define SLUICE_INLINE inline __attribute__((always_inline))

#if SLUICE_VECTOR_BYTES == 64 && defined(__AVX512BW__) && defined(__AVX512VL__)
#define SLUICE_NATIVE_AVX512
#elif SLUICE_VECTOR_BYTES == 32 && defined(__AVX2__)
#define SLUICE_NATIVE_AVX2
#endif
#if defined(SLUICE_NATIVE_AVX512) || defined(SLUICE_NATIVE_AVX2)
#include <immintrin.h>
#endif

namespace sluice::SLUICE_ISA::native {

typedef float Floats __attribute__((vector_size(SLUICE_VECTOR_BYTES)));
typedef double Doubles __attribute__((vector_size(SLUICE_VECTOR_BYTES)));
typedef uint32_t Words __attribute__((vector_size(SLUICE_VECTOR_BYTES)));
typedef uint16_t Halves __attribute__((vector_size(SLUICE_VECTOR_BYTES / 2)));

template <class To, class From>
SLUICE_INLINE To bits_of(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To out;
  std::memcpy(&out, &x, sizeof out);
  return out;
}

#ifdef SLUICE_NATIVE_AVX512

SLUICE_INLINE __mmask16 first(int64_t count) { return __mmask16((uint32_t{1} << count) - 1); }
SLUICE_INLINE Floats load_first(const float* p, int64_t count) { return _mm512_maskz_loadu_ps(first(count), p); }
SLUICE_INLINE Doubles load_first(const double* p, int64_t count) {
  return _mm512_maskz_loadu_pd(__mmask8(first(count)), p);
}
SLUICE_INLINE void store_first(float* p, Floats x, int64_t count) { _mm512_mask_storeu_ps(p, first(count), x); }
SLUICE_INLINE void store_first(double* p, Doubles x, int64_t count) {
  _mm512_mask_storeu_pd(p, __mmask8(first(count)), x);
}

// 16-bit numbers in memory, 32-bit words in registers. A full mask costs nothing and spares a false warning of GCC 12.
SLUICE_INLINE Words widened(__m256i x) { return bits_of<Words>(_mm512_maskz_cvtepu16_epi32(__mmask16(-1), x)); }
SLUICE_INLINE __m256i narrowed(Words x) { return _mm512_maskz_cvtepi32_epi16(__mmask16(-1), bits_of<__m512i>(x)); }
SLUICE_INLINE Words load_halves(const Bf16* p) {
  return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
SLUICE_INLINE Words load_halves_first(const Bf16* p, int64_t count) {
  return widened(_mm256_maskz_loadu_epi16(first(count), p));
}
SLUICE_INLINE void store_halves(Bf16* p, Words x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrowed(x)); }
SLUICE_INLINE void store_halves_first(Bf16* p, Words x, int64_t count) {
  _mm256_mask_storeu_epi16(p, first(count), narrowed(x));
}

// p * 2^n for whole n in [-126, 128], or 0 where x < low.
SLUICE_INLINE Floats scale(Floats p, Floats n, Floats x, Floats low) {
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, low, _CMP_NLT_UQ), p, n);
}

#else

// Copies `count` < lanes elements in pieces of constant size, which beats a call of memcpy.
template <class S>
SLUICE_INLINE void copy_first(S* to, const S* from, int64_t count) {
  constexpr int64_t lanes = SLUICE_VECTOR_BYTES / int64_t(sizeof(S) < 4 ? 4 : sizeof(S));
  if constexpr (lanes > 4) {
    if (count & 4) std::memcpy(to, from, 4 * sizeof(S)), to += 4, from += 4;
  }
  if constexpr (lanes > 2) {
    if (count & 2) std::memcpy(to, from, 2 * sizeof(S)), to += 2, from += 2;
  }
  if (count & 1) *to = *from;
}

SLUICE_INLINE Floats scale(Floats p, Floats n, Floats x, Floats low) {
  typedef int32_t Ints __attribute__((vector_size(SLUICE_VECTOR_BYTES)));
  const Ints exponent = __builtin_convertvector(n, Ints);
  const Ints half = exponent >> 1;  // 2^128 is no float: in two steps
  const Floats scaled = p * bits_of<Floats>((half + 127) << 23) * bits_of<Floats>((exponent - half + 127) << 23);
  return x < low ? Floats{} : scaled;
}

#ifdef SLUICE_NATIVE_AVX2

SLUICE_INLINE __m256i first_words(int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
SLUICE_INLINE __m256i first_longs(int64_t count) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
SLUICE_INLINE Floats load_first(const float* p, int64_t count) { return _mm256_maskload_ps(p, first_words(count)); }
SLUICE_INLINE Doubles load_first(const double* p, int64_t count) { return _mm256_maskload_pd(p, first_longs(count)); }
SLUICE_INLINE void store_first(float* p, Floats x, int64_t count) { _mm256_maskstore_ps(p, first_words(count), x); }
SLUICE_INLINE void store_first(double* p, Doubles x, int64_t count) { _mm256_maskstore_pd(p, first_longs(count), x); }

SLUICE_INLINE Words load_halves(const Bf16* p) {
  return bits_of<Words>(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
SLUICE_INLINE void store_halves(Bf16* p, Words x) {
  const __m256i packed = _mm256_packus_epi32(bits_of<__m256i>(x), bits_of<__m256i>(x));  // within each half
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0xD8)));
}

#else

template <class S>
struct RegisterOf;
template <>
struct RegisterOf<float> {
  using type = Floats;
};
template <>
struct RegisterOf<double> {
  using type = Doubles;
};

template <class S>
SLUICE_INLINE typename RegisterOf<S>::type load_first(const S* p, int64_t count) {
  typename RegisterOf<S>::type out{};
  copy_first(reinterpret_cast<S*>(&out), p, count);
  return out;
}
template <class S>
SLUICE_INLINE void store_first(S* p, typename RegisterOf<S>::type x, int64_t count) {
  copy_first(p, reinterpret_cast<const S*>(&x), count);
}

SLUICE_INLINE Words load_halves(const Bf16* p) {
  Halves half;
  std::memcpy(&half, p, sizeof half);
  return __builtin_convertvector(half, Words);
}
SLUICE_INLINE void store_halves(Bf16* p, Words x) {
  const Halves half = __builtin_convertvector(x, Halves);
  std::memcpy(p, &half, sizeof half);
}

#endif

SLUICE_INLINE Words load_halves_first(const Bf16* p, int64_t count) {
  Bf16 lanes[SLUICE_VECTOR_BYTES / 4] = {};
  copy_first(lanes, p, count);
  return load_halves(lanes);
}
SLUICE_INLINE void store_halves_first(Bf16* p, Words x, int64_t count) {
  Bf16 lanes[SLUICE_VECTOR_BYTES / 4];
  store_halves(lanes, x);
  copy_first(p, lanes, count);
}

#endif

}  // namespace sluice::SLUICE_ISA::native
