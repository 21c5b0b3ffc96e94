// What the attention kernels share: where one head's rows lie, how tiles are brought into the accumulator type, and
// which part of a tile is seen; and what the backward pass keeps of a tile.
#pragma once

#include "kernels/cpu/attention_workspace.h"
#include "kernels/cpu/isa/rows.h"
#include "kernels/cpu/isa/tile_gemm.h"
#include "kernels/cpu/isa/transpose.h"
#include "kernels/formulas/scores/registry.h"

namespace sluice::SLUICE_ISA {

inline constexpr int64_t kBlock = kAttentionBlock;
inline constexpr int64_t kStrip = 16;  // of a tile on the diagonal; a multiple of every vector's lanes
inline constexpr int64_t kMaxHead = kMaxHeadSize;

// What the score function has learned for head h; zeros for what it does not learn.
template <class A>
SLUICE_INLINE LearnedOfHead<A> learned_of(const LearnedTensors& learned, int64_t h) {
  LearnedOfHead<A> out;
  for (int i = 0; i < kMostLearned; ++i)
    out.at[i] = learned.at[i].data ? static_cast<const A*>(learned.at[i].data)[h] : A(0);
  return out;
}

// First element of row (b, t) of head h; heads of x have D features.
template <class S>
SLUICE_INLINE S* head_row(const Tensor& x, const AttentionShape& s, int64_t b, int64_t t, int64_t h, int64_t D) {
  return static_cast<S*>(x.data) + (b * s.T + t) * x.stride + h * D;
}

// Rows of D elements on their way into the cache: many at once, where loads would wait for a few at a time.
template <int kForWriting, class S>
SLUICE_INLINE void prefetch_rows(const S* from, int64_t stride, int64_t n, int64_t D) {
  constexpr int64_t kLine = 64 / int64_t(sizeof(S));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t d = 0; d < D; d += kLine) __builtin_prefetch(from + i * stride + d, kForWriting);
}

// A row of D elements, of whole SIMD registers of this instruction set.
template <class A>
SLUICE_INLINE constexpr int64_t whole_vectors(int64_t D) {
  return (D + Vec<A>::kLanes - 1) / Vec<A>::kLanes * Vec<A>::kLanes;
}

// Where the document of row (b, t) begins.
SLUICE_INLINE int64_t document_of(const AttentionForward& args, int64_t b, int64_t t) {
  return args.first_key.data ? static_cast<const int32_t*>(args.first_key.data)[b * args.spec.shape.T + t] : 0;
}

// The first key that row (b, t) sees: of its document, and of its window.
SLUICE_INLINE int64_t first_key_of(const AttentionForward& args, int64_t b, int64_t t) {
  const int64_t document = document_of(args, b, t), window = args.spec.window;
  return window > 0 && t - window + 1 > document ? t - window + 1 : document;
}

// Which part of a tile of keys a block's queries may see, in whole strips. On the diagonal a query sees the keys up to
// its own position, and where its document or its window begins inside the tile those from there on: products are cut
// into strips of queries or keys, and what lies beyond a strip is left out.
struct SeenStrips {
  static constexpr int64_t kCount = kBlock / kStrip;
  bool whole = true;                                   // all of the tile: one product
  int64_t keys_begin[kCount], keys_end[kCount];        // of a strip of queries: the keys that some of them may see
  int64_t queries_begin[kCount], queries_end[kCount];  // of a strip of keys: the queries that may see some of them

  // start_of(i): the first key that query i of the block sees, counted from the tile's first. Never decreasing.
  template <class StartOf>
  SLUICE_INLINE SeenStrips(bool is_slot, bool diagonal, StartOf start_of) {
    int64_t starts[kCount];
    for (int64_t strip = 0; strip < kCount; ++strip) {
      starts[strip] = is_slot ? 0 : start_of(strip * kStrip);
      keys_begin[strip] = starts[strip] > 0 ? min_of(starts[strip] / kStrip * kStrip, kBlock) : 0;
      keys_end[strip] = diagonal ? (strip + 1) * kStrip : kBlock;
      whole &= keys_begin[strip] == 0 && !diagonal;
    }
    for (int64_t strip = 0; strip < kCount; ++strip) {
      queries_begin[strip] = diagonal ? strip * kStrip : 0;
      int64_t seeing = kCount;
      while (seeing > 0 && starts[seeing - 1] >= (strip + 1) * kStrip) --seeing;
      queries_end[strip] = seeing * kStrip;
    }
  }

  // body(first, n, begin, end): strips of n queries, or of n keys, from `first` on, and what of the other side they may
  // see, or be seen by.
  template <class Body>
  SLUICE_INLINE void for_queries(int64_t count, Body body) const {
    for_strips(count, keys_begin, keys_end, body);
  }
  template <class Body>
  SLUICE_INLINE void for_keys(int64_t count, Body body) const {
    for_strips(count, queries_begin, queries_end, body);
  }

 private:
  template <class Body>
  SLUICE_INLINE void for_strips(int64_t count, const int64_t* begin, const int64_t* end, Body body) const {
    const int64_t step = whole ? kBlock : kStrip;
    for (int64_t first = 0; first < count; first += step) {
      const int64_t strip = first / kStrip;
      if (begin[strip] < end[strip]) body(first, min_of(step, count - first), begin[strip], end[strip]);
    }
  }
};

// A view of tile rows in the accumulator type.
template <class A>
struct Rows {
  const A* data;
  int64_t stride;
};

// Rows [0, n) x [0, D) of `from` as accumulators whose rows are whole vectors: in place where they are that already,
// else converted into `scratch` [kBlock, padded].
template <class S, class A>
SLUICE_INLINE Rows<A> tile_rows(const S* from, int64_t stride, int64_t n, int64_t D, int64_t padded, A* scratch) {
  if constexpr (sizeof(S) == sizeof(A)) {
    if (D == padded) return {reinterpret_cast<const A*>(from), stride};
  }
  for (int64_t i = 0; i < n; ++i)
    for_vectors<A>(padded, [&](int64_t d, int64_t) {
      const int64_t left = D - d;
      store(scratch + i * padded + d, left >= Vec<A>::kLanes ? load(from + i * stride + d)
                                      : left > 0             ? load_first(from + i * stride + d, left)
                                                             : Vec<A>(0));
    });
  return {scratch, padded};
}

// out[d][i] = factor * from[i][d], d < D, i < kBlock; columns i >= n are zero. [D, kBlock]
template <class S, class A>
SLUICE_INLINE void pack_transposed(const S* from, int64_t stride, int64_t n, int64_t D, A factor, A* out) {
  constexpr int64_t lanes = Vec<A>::kLanes;
  for (int64_t i = 0; i < kBlock; i += lanes)
    for (int64_t d = 0; d < D; d += lanes) {
      const int64_t wide = min_of(lanes, D - d);
      Vec<A> block[lanes];
#pragma GCC unroll 16
      for (int64_t j = 0; j < lanes; ++j)
        block[j] = i + j < n ? load_some(from + (i + j) * stride + d, wide) * Vec<A>(factor) : Vec<A>(0);
      transpose(block);
#pragma GCC unroll 16
      for (int64_t j = 0; j < lanes; ++j)
        if (j < wide) store(out + (d + j) * kBlock + i, block[j]);
    }
}

// ---- tiles of the backward pass ---------------------------------------------------------------------------------------

// A block of keys and values with everything the products need.
template <class S>
struct KeyBlock {
  using A = Acc<S>;
  int64_t first, count;  // position of its first key, -1 for the bias slot
  bool has_values;
  Rows<A> rows;                                // [count, padded_qk]
  alignas(64) A k_rows[kBlock * kMaxHead];     // scratch of `rows`
  alignas(64) A k_columns[kMaxHead * kBlock];  // [D_qk, kBlock]
  alignas(64) A v_columns[kMaxHead * kBlock];  // [D_v, kBlock]
  alignas(64) A d_k[kBlock * kMaxHead];        // [count, padded_qk]
  alignas(64) A d_v[kBlock * kMaxHead];        // [count, padded_v]

  template <class From>
  void load_block(const From* k, int64_t k_stride, const From* v, int64_t v_stride, int64_t first_key, int64_t n,
                  const AttentionShape& s) {
    first = first_key, count = n, has_values = v != nullptr;
    rows = tile_rows(k, k_stride, n, s.D_qk, whole_vectors<A>(s.D_qk), k_rows);
    pack_transposed(k, k_stride, n, s.D_qk, A(1), k_columns);
    if (v) pack_transposed(v, v_stride, n, s.D_v, A(1), v_columns);
  }
};

// A block of queries of one head, their output gradients, and their tile against a block of keys.
template <class S>
struct QueryRows {
  using A = Acc<S>;
  int64_t first, count;
  int64_t starts[kBlock];  // the first key that each sees
  Rows<A> q, d_o;
  const A *m, *inverse, *delta;  // [count]
  alignas(64) A q_scratch[kBlock * kMaxHead];
  alignas(64) A d_o_scratch[kBlock * kMaxHead];
  alignas(64) A s[kBlock * kBlock];   // [queries, keys]: scores, then weights
  alignas(64) A dp[kBlock * kBlock];  // [queries, keys]: dL/dp, then dL/ds
};

}  // namespace sluice::SLUICE_ISA
