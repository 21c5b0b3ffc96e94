// Vec<T>: one SIMD register of T (float or double), of the width this translation unit is compiled for.
//
// Every file in this folder is compiled once per instruction set, with SLUICE_ISA naming the inner namespace and
// SLUICE_VECTOR_BYTES the register width, so the same source gives SSE, AVX2 and AVX-512 kernels without a symbol in
// common. Built on GCC's vector extensions. Storage types: float, double, Bf16 (loaded to float, stored rounded).
// Do not call inline functions of the standard library here: the linker might keep one set's copy for all.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/isa/native.h"
#include "kernels/formulas/math.h"
#include "kernels/types/bf16.h"

namespace sluice::SLUICE_ISA {

// The compiler's vector types: of T, and of the integers a comparison of two of them gives.
template <class T>
struct NativeOf;
template <>
struct NativeOf<float> {
  typedef float Value __attribute__((vector_size(SLUICE_VECTOR_BYTES)));
  typedef int32_t Integer __attribute__((vector_size(SLUICE_VECTOR_BYTES)));
};
template <>
struct NativeOf<double> {
  typedef double Value __attribute__((vector_size(SLUICE_VECTOR_BYTES)));
  typedef int64_t Integer __attribute__((vector_size(SLUICE_VECTOR_BYTES)));
};

template <class T>
struct Mask {
  using Native = typename NativeOf<T>::Integer;
  Native v;
};

template <class T>
struct Vec {
  static constexpr int kLanes = SLUICE_VECTOR_BYTES / int(sizeof(T));
  using Native = typename NativeOf<T>::Value;
  Native v;

  Vec() = default;
  SLUICE_INLINE Vec(Native native) : v(native) {}
  SLUICE_INLINE Vec(T x) : v(x - Native{}) {}  // in every lane: x - 0 is x, for -0 too
  SLUICE_INLINE Vec(int x) : Vec(T(x)) {}
  SLUICE_INLINE T operator[](int lane) const { return v[lane]; }

  friend SLUICE_INLINE Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
  friend SLUICE_INLINE Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
  friend SLUICE_INLINE Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
  friend SLUICE_INLINE Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
  SLUICE_INLINE Vec& operator+=(Vec b) {
    v += b.v;
    return *this;
  }
  SLUICE_INLINE Vec& operator*=(Vec b) {
    v *= b.v;
    return *this;
  }
  friend SLUICE_INLINE Mask<T> operator<(Vec a, Vec b) { return {a.v < b.v}; }
  friend SLUICE_INLINE Mask<T> operator>(Vec a, Vec b) { return {a.v > b.v}; }
  friend SLUICE_INLINE Mask<T> operator<=(Vec a, Vec b) { return {a.v <= b.v}; }
  friend SLUICE_INLINE Mask<T> operator>=(Vec a, Vec b) { return {a.v >= b.v}; }
};

template <class T>
SLUICE_INLINE Mask<T> operator&(Mask<T> a, Mask<T> b) {
  return {a.v & b.v};
}

// A NaN in `a` is chosen by neither comparison: where one must survive, pass it as b.
template <class T>
SLUICE_INLINE Vec<T> select(Mask<T> m, Vec<T> a, Vec<T> b) {
  return {m.v ? a.v : b.v};
}
template <class T>
SLUICE_INLINE Vec<T> max_of(Vec<T> a, Vec<T> b) {
  return {a.v > b.v ? a.v : b.v};
}
template <class T>
SLUICE_INLINE Vec<T> min_of(Vec<T> a, Vec<T> b) {
  return {a.v < b.v ? a.v : b.v};
}
template <class T>
SLUICE_INLINE Vec<T> abs_of(Vec<T> x) {
  return select(x < Vec<T>(0), Vec<T>(0) - x, x);
}

SLUICE_INLINE Vec<float> sqrt_of(Vec<float> x) {
  for (int i = 0; i < Vec<float>::kLanes; ++i) x.v[i] = __builtin_sqrtf(x.v[i]);
  return x;
}
SLUICE_INLINE Vec<double> sqrt_of(Vec<double> x) {
  for (int i = 0; i < Vec<double>::kLanes; ++i) x.v[i] = __builtin_sqrt(x.v[i]);
  return x;
}

// e^x to about 1 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, a degree-6 polynomial in r, then a shift of the exponent.
// 0 below -87.3 (no denormals), infinity above 88.7, NaN stays NaN.
SLUICE_INLINE Vec<float> exp_of(Vec<float> x) {
  using V = Vec<float>;
  const V low(-87.33654f), high(89.0f);
  const V t = min_of(high, max_of(low, x));  // a NaN passes both
  const V magic(12582912.0f);                // 1.5 * 2^23: adding it rounds to an integer
  const V n = t * V(1.44269504088896341f) + magic - magic;
  V r = t - n * V(0.693145751953125f);
  r = r - n * V(1.42860682030941723e-6f);
  V p(1.38144658e-3f);  // minimax for the relative error, 3e-9
  p = p * r + V(8.36878084e-3f);
  p = p * r + V(4.16683927e-2f);
  p = p * r + V(0.166665196f);
  p = p * r + V(0.499999940f);
  p = p * (r * r) + r + V(1);
  return {native::scale(p.v, n.v, x.v, low.v)};
}
SLUICE_INLINE Vec<double> exp_of(Vec<double> x) {
  for (int i = 0; i < Vec<double>::kLanes; ++i) x.v[i] = __builtin_exp(x.v[i]);
  return x;
}

// 0, 1, 2, ... in the lanes.
template <class T>
SLUICE_INLINE Vec<T> lane_index() {
  Vec<T> out;
  for (int i = 0; i < Vec<T>::kLanes; ++i) out.v[i] = T(i);
  return out;
}
// Lanes [0, count).
template <class T>
SLUICE_INLINE Mask<T> first_lanes(int64_t count) {
  return lane_index<T>() < Vec<T>(T(count));
}

template <class T, class Four>
SLUICE_INLINE T sum_of_4(Four x) {
  return (x[0] + x[2]) + (x[1] + x[3]);
}
template <class T, class Eight>
SLUICE_INLINE T sum_of_8(Eight x) {
  return sum_of_4<T>(__builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7));
}
// The lanes added up in a fixed tree: lane i and lane i + half first.
template <class T>
SLUICE_INLINE T sum_of(Vec<T> x) {
  if constexpr (Vec<T>::kLanes == 16)
    return sum_of_8<T>(__builtin_shufflevector(x.v, x.v, 0, 1, 2, 3, 4, 5, 6, 7) +
                       __builtin_shufflevector(x.v, x.v, 8, 9, 10, 11, 12, 13, 14, 15));
  else if constexpr (Vec<T>::kLanes == 8) return sum_of_8<T>(x.v);
  else if constexpr (Vec<T>::kLanes == 4) return sum_of_4<T>(x.v);
  else return x[0] + x[1];
}

// --- loads and stores; `count` < kLanes leaves the rest zero or untouched

template <class S>
SLUICE_INLINE Vec<S> load(const S* from) {
  Vec<S> out;
  std::memcpy(&out.v, from, sizeof out.v);
  return out;
}
SLUICE_INLINE Vec<float> from_halves(native::Words x) { return {native::bits_of<native::Floats>(x << 16)}; }
SLUICE_INLINE native::Words rounded_halves(Vec<float> x) {
  const auto bits = native::bits_of<native::Words>(x.v);
  const native::Words rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
  return (bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded;
}
SLUICE_INLINE Vec<float> load(const Bf16* from) { return from_halves(native::load_halves(from)); }
template <class S>
SLUICE_INLINE void store(S* to, Vec<S> x) {
  std::memcpy(to, &x.v, sizeof x.v);
}
SLUICE_INLINE void store(Bf16* to, Vec<float> x) { native::store_halves(to, rounded_halves(x)); }

template <class S>
SLUICE_INLINE Vec<S> load_first(const S* from, int64_t count) {
  return {native::load_first(from, count)};
}
SLUICE_INLINE Vec<float> load_first(const Bf16* from, int64_t count) {
  return from_halves(native::load_halves_first(from, count));
}
template <class S>
SLUICE_INLINE void store_first(S* to, Vec<S> x, int64_t count) {
  native::store_first(to, x.v, count);
}
SLUICE_INLINE void store_first(Bf16* to, Vec<float> x, int64_t count) {
  native::store_halves_first(to, rounded_halves(x), count);
}

// One element, as a scalar.
template <class S>
SLUICE_INLINE S load_one(const S* from) {
  return *from;
}
SLUICE_INLINE float load_one(const Bf16* from) {
  const uint32_t wide = uint32_t{from->bits} << 16;
  return native::bits_of<float>(wide);
}
template <class S>
SLUICE_INLINE void store_one(S* to, Acc<S> x) {
  store_first(to, Vec<Acc<S>>(x), 1);
}

// Runs body(index, load, store-count) over [0, n) in vectors; the last one may be partial. `body(i, count)` gets the
// first element and how many of the lanes count.
template <class T, class Body>
SLUICE_INLINE void for_vectors(int64_t n, Body body) {
  constexpr int64_t lanes = Vec<T>::kLanes;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(i, lanes);
  if (i < n) body(i, n - i);
}
// Load/store that take the partial path only where needed; inlined with a constant count they cost nothing.
template <class S>
SLUICE_INLINE Vec<Acc<S>> load_some(const S* from, int64_t count) {
  return count == Vec<Acc<S>>::kLanes ? load(from) : load_first(from, count);
}
template <class S>
SLUICE_INLINE void store_some(S* to, Vec<Acc<S>> x, int64_t count) {
  if (count == Vec<Acc<S>>::kLanes) store(to, x);
  else store_first(to, x, count);
}

}  // namespace sluice::SLUICE_ISA
