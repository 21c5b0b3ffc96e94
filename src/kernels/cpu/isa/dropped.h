// Masks of dropout (kernels/formulas/dropout.h) in SIMD registers: Philox for 64 values of a row at a time, and what
// that leaves of a tile of attention weights.
//
// A 64-bit lane is one call and holds one of its four words in its low half, so that a round is two multiplications,
// two shifts and four xors for as many calls as there are lanes. Measured on one core, values in cache, a
// value takes 0.6 ns with AVX-512, 0.8 with AVX2 and 1.25 without, of which a copy is 0.3.
#pragma once

#include <type_traits>

#include "kernels/cpu/attention_workspace.h"
#include "kernels/cpu/isa/vec.h"
#include "kernels/formulas/dropout.h"
#include "kernels/ops/attention.h"

#ifdef __SSE2__
#include <immintrin.h>
#endif

#define SLUICE_APART __attribute__((noinline))

namespace sluice::SLUICE_ISA {

typedef uint64_t Longs __attribute__((vector_size(SLUICE_VECTOR_BYTES)));

// Of the low halves of all lanes.
SLUICE_INLINE Longs product_of_low_halves(Longs a, Longs b) {
#if defined(SLUICE_NATIVE_AVX512)
  return native::bits_of<Longs>(
      _mm512_maskz_mul_epu32(__mmask8(-1), native::bits_of<__m512i>(a), native::bits_of<__m512i>(b)));
#elif defined(SLUICE_NATIVE_AVX2)
  return native::bits_of<Longs>(_mm256_mul_epu32(native::bits_of<__m256i>(a), native::bits_of<__m256i>(b)));
#elif defined(__SSE2__) && SLUICE_VECTOR_BYTES == 16
  return native::bits_of<Longs>(_mm_mul_epu32(native::bits_of<__m128i>(a), native::bits_of<__m128i>(b)));
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

// What the masks of a sequence are drawn by, at a place of the model and in a head.
struct DropoutDraw {
  uint64_t key, stream;
  uint32_t below;
};

// Bit i: value i of the 64 from 8 * first_group on is dropped.
SLUICE_INLINE uint64_t dropped_of_64(const DropoutDraw& draw, uint32_t row, uint32_t first_group) {
  constexpr int kLanes = SLUICE_VECTOR_BYTES / 8, kVectors = 8 / kLanes;
  const Longs mul0 = Longs{} + 0xD2511F53u, mul1 = Longs{} + 0xCD9E8D57u;
  uint32_t k0 = uint32_t(draw.key), k1 = uint32_t(draw.key >> 32);
  Longs lanes{};
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = uint64_t(lane);
  Longs c0[kVectors], c1[kVectors], c2[kVectors], c3[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    c0[v] = lanes + (first_group + uint32_t(v * kLanes));
    c1[v] = Longs{} + row;
    c2[v] = Longs{} + uint32_t(draw.stream);
    c3[v] = Longs{} + uint32_t(draw.stream >> 32);
  }
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Longs p0 = product_of_low_halves(c0[v], mul0), p1 = product_of_low_halves(c2[v], mul1);
      c0[v] = (p1 >> 32) ^ c1[v] ^ k0;
      c2[v] = (p0 >> 32) ^ c3[v] ^ k1;
      c1[v] = p1, c3[v] = p0;  // what their high halves hold is read by nobody
    }
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  uint64_t bytes[8];
  for (int v = 0; v < kVectors; ++v) {
    Longs dropped{};
    const Longs words[4] = {c0[v], c1[v], c2[v], c3[v]};
#pragma GCC unroll 8
    for (int i = 0; i < kDropoutGroup; ++i)
      dropped |= (((words[i / 2] >> (i % 2 * 16) & 0xffff) - draw.below) >> 63) << i;  // a difference below 0
    __builtin_memcpy(bytes + v * kLanes, &dropped, sizeof dropped);
  }
  uint64_t out = 0;
  for (int i = 0; i < 8; ++i) out |= bytes[i] << (8 * i);
  return out;
}

// The lanes whose bit is set.
template <class A>
SLUICE_INLINE Mask<A> lanes_of(uint64_t bits) {
  using Integers = typename Mask<A>::Native;
  using Integer = decltype(Integers{}[0] + 0);
  Integers own{};
  for (int i = 0; i < Vec<A>::kLanes; ++i) own[i] = Integer{1} << i;
  return {((Integers{} + Integer(bits)) & own) != 0};
}

// Of a tile of attention weights: row i, value j is weight p_ij of its head. Bits are drawn for a whole tile at once,
// whichever way it lies, by functions of their own: nothing of it stands in the loops over tiles of models that drop
// nothing. A tile of 64 x 64 takes 4,096 draws and a visit in cache; its products are 2 (forward) or 5 (backward) times
// D multiply-adds a weight.
template <class A>
class TileDropout {
 public:
  // Of head h of sequence b.
  SLUICE_INLINE void set(const AttentionForward& args, int64_t b, int64_t h) {
    scale_ = 0;
    if (!args.dropout.keys.data) return;
    const DropoutRate rate = dropout_rate(args.dropout.probability);
    draw_ = {dropout_key_of(static_cast<const int32_t*>(args.dropout.keys.data), b),
             dropout_stream(args.dropout.place, uint32_t(h)), rate.below};
    scale_ = A(rate.scale);
  }
  // Whether anything is dropped.
  SLUICE_INLINE explicit operator bool() const { return scale_ > A(0); }

  // For the tile of `count` queries from `query` on and the keys from `key` on, a multiple of 64; -1: the bias slot.
  SLUICE_APART void draw(int64_t query, int64_t count, int64_t key) {
    const uint32_t group = key < 0 ? kDropoutSlot : uint32_t(key / kDropoutGroup);
    for (int64_t i = 0; i < kAttentionBlock; ++i) {
      const uint64_t dropped = i < count ? dropped_of_64(draw_, uint32_t(query + i), group) : 0;
      for (int64_t plane = 0; plane < kPlanes; ++plane) planes_[plane][i] = Word(dropped >> (plane * kBits));
    }
  }
  // A tile [keys, queries]: keys [begin, end) of the queries in the lanes from i on.
  SLUICE_INLINE void drop_columns(A* tile, int64_t i, int64_t begin, int64_t end) const {
    for (int64_t j = begin; j < end; ++j) {
      typename Mask<A>::Native words;
      __builtin_memcpy(&words, &planes_[j / kBits][i], sizeof words);
      drop(tile + j * kAttentionBlock + i, {(words >> Word(j % kBits) & 1) != 0});
    }
  }
  // A tile [queries, keys]: keys [begin, end) of query i, in whole vectors.
  SLUICE_INLINE void drop_row(A* tile, int64_t i, int64_t begin, int64_t end) const {
    for (int64_t j = begin; j < end; j += Vec<A>::kLanes)
      drop(tile + i * kAttentionBlock + j, lanes_of<A>(uint64_t(planes_[j / kBits][i] >> (j % kBits))));
  }

 private:
  using Word = std::conditional_t<sizeof(A) == 4, int32_t, int64_t>;
  static constexpr int64_t kBits = 8 * int64_t(sizeof(A)), kPlanes = 64 / kBits;
  static_assert(kAttentionBlock == 64);

  SLUICE_INLINE void drop(A* at, Mask<A> dropped) const {
    store(at, select(dropped, Vec<A>(0), load(at) * Vec<A>(scale_)));
  }

  DropoutDraw draw_;
  A scale_ = 0;
  alignas(64) Word planes_[kPlanes][kAttentionBlock];  // of each query: bit j of its words, key j
};

}  // namespace sluice::SLUICE_ISA
