// Which keys rows of attention see: documents, windows and orders of rows (kernels/ops/attention.h); and which part of
// a tile that is.
#pragma once

#include "kernels/cpu/attention_workspace.h"
#include "kernels/cpu/isa/rows.h"
#include "kernels/ops/attention.h"

namespace sluice::SLUICE_ISA {

inline constexpr int64_t kBlock = kAttentionBlock;
inline constexpr int64_t kStrip = 16;  // of a tile on the diagonal; a multiple of every vector's lanes

// What is said of row (b, t), or of the token at place t, where rows have an order.
SLUICE_INLINE int64_t in_order(const AttentionForward& args, OrderPlane plane, int64_t b, int64_t t) {
  const AttentionShape& s = args.spec.shape;
  return static_cast<const int32_t*>(args.order.data)[(int64_t(plane) * s.B + b) * s.T + t];
}

// The place at which the document of row (b, t) begins: a row, where rows have no order.
SLUICE_INLINE int64_t document_of(const AttentionForward& args, int64_t b, int64_t t) {
  if (args.order.data) return in_order(args, OrderPlane::kFirst, b, t);
  return args.first_key.data ? static_cast<const int32_t*>(args.first_key.data)[b * args.spec.shape.T + t] : 0;
}

// The first key that row (b, t) sees: of its document, and of its window. Where rows have an order, that of its window,
// in which there are some that it does not see.
SLUICE_INLINE int64_t first_key_of(const AttentionForward& args, int64_t b, int64_t t) {
  if (args.order.data) return in_order(args, OrderPlane::kBegin, b, t);
  const int64_t document = document_of(args, b, t), window = args.spec.window;
  return window > 0 && t - window + 1 > document ? t - window + 1 : document;
}

// Behind the last key that it sees: its own, or the last of its document and of its window.
SLUICE_INLINE int64_t end_key_of(const AttentionForward& args, int64_t b, int64_t t) {
  if (args.order.data) return in_order(args, OrderPlane::kEnd, b, t);
  if (!args.last_key.data) return t + 1;
  const int64_t end = static_cast<const int32_t*>(args.last_key.data)[b * args.spec.shape.T + t] + 1;
  return args.spec.window > 0 ? min_of(end, t + args.spec.window) : end;
}

// How many keys it sees beside its own.
SLUICE_INLINE int64_t others_of(const AttentionForward& args, int64_t b, int64_t t) {
  if (args.order.data) return in_order(args, OrderPlane::kLength, b, t) - 1;
  return end_key_of(args, b, t) - first_key_of(args, b, t) - 1;
}

// Whether it sees the first key of its document.
SLUICE_INLINE bool sees_document(const AttentionForward& args, int64_t b, int64_t t) {
  if (!args.order.data) return first_key_of(args, b, t) == document_of(args, b, t);
  const int64_t row = in_order(args, OrderPlane::kRow, b, document_of(args, b, t));
  return row >= first_key_of(args, b, t) && row < end_key_of(args, b, t);
}

// Which part of a tile of keys a block's queries may see, in whole strips. On the diagonal a query sees the keys up to
// its own position, and where its document or its window begins or ends inside the tile those from there on, or up to
// there: products are cut into strips of queries or keys, and what lies beyond a strip is left out.
struct SeenStrips {
  static constexpr int64_t kCount = kBlock / kStrip;
  bool whole = true;                                   // all of the tile: one product
  int64_t keys_begin[kCount], keys_end[kCount];        // of a strip of queries: the keys that some of them may see
  int64_t queries_begin[kCount], queries_end[kCount];  // of a strip of keys: the queries that may see some of them

  // start_of(i), end_of(i): the first key that query i of the block sees, and the one behind the last, counted from the
  // tile's first. Never decreasing.
  template <class StartOf, class EndOf>
  SLUICE_INLINE SeenStrips(bool is_slot, StartOf start_of, EndOf end_of) {
    int64_t starts[kCount];
    for (int64_t strip = 0; strip < kCount; ++strip) {
      starts[strip] = is_slot ? 0 : start_of(strip * kStrip);
      const int64_t end = is_slot ? kBlock : end_of((strip + 1) * kStrip - 1);
      keys_begin[strip] = starts[strip] > 0 ? min_of(starts[strip] / kStrip * kStrip, kBlock) : 0;
      keys_end[strip] = end > 0 ? min_of(pieces_of(end, kStrip) * kStrip, kBlock) : 0;
      whole &= keys_begin[strip] == 0 && keys_end[strip] == kBlock;
    }
    for (int64_t strip = 0; strip < kCount; ++strip) {
      int64_t before = 0, seeing = kCount;
      while (before < kCount && keys_end[before] <= strip * kStrip) ++before;
      queries_begin[strip] = before * kStrip;
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

// What each query of a block sees, a lane a query; keys are counted from the block's first query.
template <class A>
struct SeenRows {
  bool ordered;                      // rows have an order
  bool causal;                       // or see no key behind their own
  alignas(64) A starts[kBlock];      // the first key that a query sees
  alignas(64) A others[kBlock];      // how many it sees beside its own
  alignas(64) A ends[kBlock];        // behind the last, where rows are not causal
  alignas(64) A places[kBlock];      // this and the following where they have an order: the last place that it sees
  alignas(64) A documents[kBlock];   // the first
  alignas(64) A key_places[kBlock];  // of the tile that is looked at

  SLUICE_INLINE SeenRows(const AttentionForward& args, int64_t b, int64_t first, int64_t count)
      : ordered(args.order.data != nullptr), causal(!ordered && !args.last_key.data) {
    for (int64_t i = 0; i < kBlock; ++i) {
      const int64_t t = first + min_of(i, count - 1);
      starts[i] = A(first_key_of(args, b, t) - first);
      others[i] = A(others_of(args, b, t));
      if (causal) continue;
      ends[i] = A(end_key_of(args, b, t) - first);
      if (!ordered) continue;
      places[i] = A(in_order(args, OrderPlane::kPlace, b, t));
      documents[i] = A(document_of(args, b, t));
    }
  }

  SLUICE_INLINE void look_at(const AttentionForward& args, int64_t b, int64_t key, int64_t count) {
    for (int64_t j = 0; ordered && j < count; ++j) key_places[j] = A(in_order(args, OrderPlane::kPlace, b, key + j));
  }

  // Of a tile that begins `before` keys before the block: its strips. Where rows are causal, no tile begins behind the
  // block's last query.
  SLUICE_INLINE SeenStrips strips(bool is_slot, int64_t before) const {
    return SeenStrips(
        is_slot, [&](int64_t i) { return before + int64_t(starts[i]); }, [&](int64_t i) { return before + end_of(i); });
  }
  // Behind the last key that query i sees.
  SLUICE_INLINE int64_t end_of(int64_t i) const { return causal ? i + 1 : int64_t(ends[i]); }

  // Queries of lanes [i, i + kLanes) that see key j of the tile, which is `key`.
  SLUICE_INLINE Mask<A> visible(int64_t j, int64_t key, int64_t i) const {
    using V = Vec<A>;
    if (causal) return (lane_index<A>() >= V(A(key - i))) & (load(starts + i) <= V(A(key)));
    const V row{A(key)};
    const Mask<A> in_window = (load(starts + i) <= row) & (load(ends + i) > row);
    if (!ordered) return in_window;
    const V place(key_places[j]);
    return (load(places + i) >= place) & (load(documents + i) <= place) & in_window;
  }
  // Whether that is the first key of query i's document and it sees it; whether it sees it between that and its own, or
  // where rows see both sides as any other than the two.
  SLUICE_INLINE bool is_first(int64_t j, int64_t key, int64_t i) const {
    return ordered ? in_window(key, i) && key_places[j] == documents[i] : A(key) == starts[i];
  }
  SLUICE_INLINE bool is_between(int64_t j, int64_t key, int64_t i) const {
    if (!ordered) return A(key) > starts[i] && key != i && key < end_of(i);
    return in_window(key, i) && key_places[j] > documents[i] && key_places[j] < places[i];
  }
  // How many keys that are.
  SLUICE_INLINE A between(int64_t i) const {
    const bool is_first = ordered ? places[i] == documents[i] : A(i) == starts[i];
    return others[i] - A(is_first ? 0 : 1);
  }
  SLUICE_INLINE bool in_window(int64_t key, int64_t i) const { return A(key) >= starts[i] && A(key) < ends[i]; }
};

}  // namespace sluice::SLUICE_ISA
