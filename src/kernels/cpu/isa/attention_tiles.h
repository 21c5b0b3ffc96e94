// What the attention kernels share: where one head's rows lie, and how tiles are brought into the accumulator type; and
// what the backward pass keeps of a tile.
#pragma once

#include "kernels/cpu/isa/attention_seen.h"
#include "kernels/cpu/isa/dropped.h"
#include "kernels/cpu/isa/tile_gemm.h"
#include "kernels/cpu/isa/transpose.h"
#include "kernels/formulas/scores/registry.h"

namespace sluice::SLUICE_ISA {

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
  bool ordered;
  alignas(64) A places[kBlock];                // of its keys, where rows have an order
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
  SLUICE_INLINE void load_places(const AttentionForward& args, int64_t b) {
    ordered = first >= 0 && args.order.data;
    for (int64_t j = 0; ordered && j < kBlock; ++j)
      places[j] = A(in_order(args, OrderPlane::kPlace, b, first + min_of(j, count - 1)));
  }
};

// A block of queries of one head, their output gradients, and their tile against a block of keys.
template <class S>
struct QueryRows {
  using A = Acc<S>;
  int64_t first, count;
  int64_t starts[kBlock], ends[kBlock];  // the first key that each sees, and the one behind the last
  A places[kBlock], documents[kBlock];   // where rows have an order: its own place, and the first that each may see
  Rows<A> q, d_o;
  const A *m, *inverse, *delta;  // [count]
  alignas(64) A q_scratch[kBlock * kMaxHead];
  alignas(64) A d_o_scratch[kBlock * kMaxHead];
  alignas(64) A s[kBlock * kBlock];   // [queries, keys]: scores, then weights
  alignas(64) A dp[kBlock * kBlock];  // [queries, keys]: dL/dp, then dL/ds
  TileDropout<A> dropout;

  SLUICE_INLINE void load_seen(const AttentionForward& args, int64_t b) {
    for (int64_t i = 0; i < count; ++i) {
      starts[i] = first_key_of(args, b, first + i);
      ends[i] = end_key_of(args, b, first + i);
      if (!args.order.data) continue;
      places[i] = A(in_order(args, OrderPlane::kPlace, b, first + i));
      documents[i] = A(document_of(args, b, first + i));
    }
  }
  // s or dp of a tile that has been drawn for.
  SLUICE_APART void drop(A* tile, const SeenStrips& seen) const {
    for (int64_t i = 0; i < count; ++i)
      dropout.drop_row(tile, i, seen.keys_begin[i / kStrip], seen.keys_end[i / kStrip]);
  }
  SLUICE_INLINE SeenStrips strips(const KeyBlock<S>& keys) const {
    return SeenStrips(
        keys.first < 0, [&](int64_t i) { return starts[min_of(i, count - 1)] - keys.first; },
        [&](int64_t i) { return ends[min_of(i, count - 1)] - keys.first; });
  }
  // Keys of lanes [j, j + kLanes) that exist and that query i may see.
  SLUICE_INLINE Mask<A> sees(const KeyBlock<S>& keys, int64_t i, int64_t j) const {
    using V = Vec<A>;
    const int64_t end = keys.first >= 0 ? min_of(ends[i] - keys.first, keys.count) : keys.count;
    const int64_t begin = keys.first >= 0 ? starts[i] - keys.first : 0;
    const Mask<A> in_window = (lane_index<A>() < V(A(end - j))) & (lane_index<A>() >= V(A(begin - j)));
    if (!keys.ordered) return in_window;
    const V of_keys = load(keys.places + j);
    return in_window & (of_keys <= V(places[i])) & (of_keys >= V(documents[i]));
  }
};

// Keys' rows of D elements in whole vectors, multiplied by a factor.
template <class S>
SLUICE_INLINE void store_key_rows(const Tensor& to, const Acc<S>* from, int64_t D, const KeyBlock<S>& keys,
                                  const AttentionShape& s, int64_t b, int64_t kv, Acc<S> factor) {
  using A = Acc<S>;
  const int64_t padded = whole_vectors<A>(D);
  for (int64_t j = 0; j < keys.count; ++j) {
    S* out = head_row<S>(to, s, b, keys.first + j, kv, D);
    for_vectors<A>(D,
                   [&](int64_t d, int64_t n) { store_some(out + d, load(from + j * padded + d) * Vec<A>(factor), n); });
  }
}

}  // namespace sluice::SLUICE_ISA
