// Attention, forward: O_i = sum_j p_ij v_j without a [T, T] matrix.
//
// A task is one block of 64 queries of one head. It walks over blocks of 64 keys, keeping for every query the running
// reference m and normaliser l of the score function (score.h) and the unnormalised output; when m grows, l and the
// output are rescaled (online softmax, arXiv 1805.02867; tiling as in arXiv 2205.14135). Scores are kept transposed,
// [keys, queries], so that a SIMD lane is a query: maxima and sums over keys are plain vector operations, and only the
// query block is ever transposed. A key bias is a tile of one key that comes first and that no query is barred from.
// Tiles of keys before the first key that some query of the block sees are left out. Where rows have an order of their
// own, all tiles of the block's windows are masked by places.
#include "kernels/cpu/isa/attention_tiles.h"

namespace sluice::SLUICE_ISA {
namespace {

// One block of keys as a query block sees it.
template <class A>
struct KeyTile {
  Rows<A> k, v;   // v.data may be null: values of zero
  int64_t first;  // position of its first key; -1 for the bias slot
  int64_t count;
  SeenStrips seen;
};

template <class S>
class QueryBlock {
 public:
  using A = Acc<S>;
  using V = Vec<A>;
  static constexpr int64_t kLanes = V::kLanes;

  QueryBlock(const AttentionForward& args, int64_t b, int64_t h, int64_t first)
      : args_(args),
        shape_(args.spec.shape),
        b_(b),
        h_(h),
        kv_(h / (shape_.H / shape_.KV)),
        first_(first),
        count_(min_of(kBlock, shape_.T - first)),
        padded_qk_(whole_vectors<A>(D_qk_)),
        padded_v_(whole_vectors<A>(D_v_)),
        sees_(args, b, first, count_) {
    prefetch();
    dropout_.set(args, b, h);
    pack_transposed(head_row<S>(args.q, shape_, b, first, h, D_qk_), args.q.stride, count_, D_qk_, A(args.spec.scale),
                    q_);
  }

  template <class Score>
  void forward() {
    start_rows<Score>();
    zero_output();
    if constexpr (Score::kTwoPass) {
      visit_tiles([&](const KeyTile<A>& tile) { absorb<Score>(tile); });
      finish_rows<Score>();
      visit_tiles([&](const KeyTile<A>& tile) {
        to_probabilities<Score>(tile);
        if (dropout_) drop(tile);
        add_values(tile);
      });
    } else {
      visit_tiles([&](const KeyTile<A>& tile) {
        absorb<Score>(tile);
        rescale_output<Score>();
        if (dropout_) drop(tile);
        add_values(tile);
      });
      finish_rows<Score>();
      scale_output();
    }
    store_results();
  }

  template <class Score>
  void probe(const AttentionProbe& out) {
    load_rows();
    A sink[kBlock] = {}, sum[kBlock] = {};
    visit_tiles([&](const KeyTile<A>& tile) {
      if (tile.first < 0) return;
      scores(tile);
      for (int64_t j = 0; j < tile.count; ++j)
        for (int64_t i = 0; i < count_; ++i) {
          const int64_t key = tile.first + j - first_;
          if (sees_.is_first(j, key, i)) sink[i] = s_[j * kBlock + i];
          else if (sees_.is_between(j, key, i)) sum[i] += s_[j * kBlock + i];
        }
    });
    const int64_t row = (b_ * shape_.H + h_) * shape_.T + first_;
    for (int64_t i = 0; i < count_; ++i) {
      const bool seen = sees_document(args_, b_, first_ + i);
      const A p = Score::probability(sink[i], m_[i], l_[i], constants<Score>());
      static_cast<A*>(out.sink_attention.data)[row + i] = seen ? p : A(0);
      const A others = sees_.between(i);
      static_cast<A*>(out.sink_logit_gap.data)[row + i] = seen && others > A(0) ? sink[i] - sum[i] / others : A(0);
    }
  }

 private:
  // What other blocks have not read just before: the queries, their results' place, and within a window the first keys.
  void prefetch() const {
    prefetch_rows<0>(head_row<S>(args_.q, shape_, b_, first_, h_, D_qk_), args_.q.stride, count_, D_qk_);
    const int64_t key = first_key_of(args_, b_, first_) / kBlock * kBlock, keys = min_of(kBlock, shape_.T - key);
    prefetch_rows<0>(head_row<S>(args_.k, shape_, b_, key, kv_, D_qk_), args_.k.stride, keys, D_qk_);
    prefetch_rows<0>(head_row<S>(args_.v, shape_, b_, key, kv_, D_v_), args_.v.stride, keys, D_v_);
    prefetch_rows<1>(head_row<S>(args_.out, shape_, b_, first_, h_, D_v_), args_.out.stride, count_, D_v_);
  }

  template <class Score>
  void start_rows() {
    const LearnedOfHead<A> learned = learned_of<A>(args_.learned, h_);
    for (int64_t i = 0; i < kBlock; ++i) {
      const RowStart<A> start = Score::template start<A>(sees_.others[i], learned, constants<Score>());
      m_[i] = start.reference;
      l_[i] = start.mass;
    }
  }

  void load_rows() {
    const A *references = stats(0), *inverses = stats(1);
    for (int64_t i = 0; i < kBlock; ++i) {
      m_[i] = i < count_ ? references[i] : A(0);
      l_[i] = i < count_ ? inverses[i] : A(0);
    }
  }

  template <class Body>
  SLUICE_INLINE void visit_tiles(Body body) {
    if (args_.key_bias) {
      const A* k = static_cast<const A*>(args_.key_bias.data) + kv_ * D_qk_;
      const A* v = args_.value_bias ? static_cast<const A*>(args_.value_bias.data) + kv_ * D_v_ : nullptr;
      body(KeyTile<A>{tile_rows(k, D_qk_, 1, D_qk_, padded_qk_, k_),
                      v ? tile_rows(v, D_v_, 1, D_v_, padded_v_, v_) : Rows<A>{nullptr, 0}, -1, 1,
                      sees_.strips(true, 0)});
    }
    const int64_t end = end_key_of(args_, b_, first_ + count_ - 1);
    for (int64_t key = first_key_of(args_, b_, first_) / kBlock * kBlock; key < end; key += kBlock) {
      const int64_t count = min_of(kBlock, end - key);
      sees_.look_at(args_, b_, key, count);
      const S *k = head_row<S>(args_.k, shape_, b_, key, kv_, D_qk_),
              *v = head_row<S>(args_.v, shape_, b_, key, kv_, D_v_);
      body(KeyTile<A>{tile_rows(k, args_.k.stride, count, D_qk_, padded_qk_, k_),
                      tile_rows(v, args_.v.stride, count, D_v_, padded_v_, v_), key, count,
                      sees_.strips(false, first_ - key)});
    }
  }

  // s_[j, i] = scale * k_j . q_i
  void scores(const KeyTile<A>& tile) {
    tile.seen.for_keys(tile.count, [&](int64_t j, int64_t n, int64_t begin, int64_t end) {
      tile_gemm<A>({tile.k.data + j * tile.k.stride, tile.k.stride, 1, q_ + begin, kBlock, s_ + j * kBlock + begin,
                    kBlock, false},
                   n, end - begin, D_qk_);
    });
  }
  // Keys of the tile that some query of the lanes [i, i + kLanes) may see.
  SLUICE_INLINE int64_t keys_begin(const KeyTile<A>& tile, int64_t i) const { return tile.seen.keys_begin[i / kStrip]; }
  SLUICE_INLINE int64_t keys_end(const KeyTile<A>& tile, int64_t i) const {
    return min_of(tile.count, tile.seen.keys_end[i / kStrip]);
  }

  // Queries of lanes [i, i + kLanes) that may see key j of the tile; of the bias slot all.
  SLUICE_INLINE Mask<A> visible(const KeyTile<A>& tile, int64_t j, int64_t i) const {
    return tile.first < 0 ? lane_index<A>() >= V(A(0)) : sees_.visible(j, tile.first + j - first_, i);
  }
  // body(j, masked) for the keys of the tile that some query of the lanes [i, i + kLanes) may see. Where its type says
  // that it is not masked, all of them do.
  template <class Body>
  SLUICE_INLINE void for_keys(const KeyTile<A>& tile, int64_t i, Body body) const {
    const int64_t begin = keys_begin(tile, i), end = keys_end(tile, i), before = first_ - tile.first;
    int64_t all_begin = begin, all_end = end;
    if (tile.first >= 0 && sees_.ordered) {
      all_begin = end;
    } else if (tile.first >= 0) {
      all_begin = max_of(begin, min_of(before + int64_t(sees_.starts[i + kLanes - 1]), end));
      all_end = max_of(all_begin, min_of(before + sees_.end_of(i), end));
    }
    for (int64_t j = begin; j < all_begin; ++j) body(j, std::true_type{});
    for (int64_t j = all_begin; j < all_end; ++j) body(j, std::false_type{});
    for (int64_t j = all_end; j < end; ++j) body(j, std::true_type{});
  }

  // Scores of a tile into unnormalised weights, in place; m_, l_ and correction_ updated.
  template <class Score>
  void absorb(const KeyTile<A>& tile) {
    scores(tile);
    const auto constants = this->constants<Score>();
    for (int64_t i = 0; i < kBlock; i += kLanes) {
      const V before = load(m_ + i);
      V m = before;
      if constexpr (Score::kRunningMax) {
        for_keys(tile, i, [&](int64_t j, auto masked) SLUICE_INLINE_BODY {
          V s = load(s_ + j * kBlock + i);
          if constexpr (decltype(masked)::value) s = select(visible(tile, j, i), s, m);
          m = max_of(s, m);
        });
        // No key seen so far: both are -inf.
        const V correction = select(m <= before, V(1), exp_of(before - m));
        store(correction_ + i, correction);
        store(m_ + i, m);
        store(l_ + i, load(l_ + i) * correction);
      }
      V mass(0);
      for_keys(tile, i, [&](int64_t j, auto masked) SLUICE_INLINE_BODY {
        A* at = s_ + j * kBlock + i;
        const V s = load(at);
        V w = Score::weight(s, m, constants), u = Score::mass(s, m, w, constants);
        if constexpr (decltype(masked)::value) {
          const Mask<A> seen = visible(tile, j, i);
          w = select(seen, w, V(0));
          u = select(seen, u, V(0));
        }
        mass += u;
        store(at, w);
      });
      store(l_ + i, load(l_ + i) + mass);
    }
  }

  template <class Score>
  void to_probabilities(const KeyTile<A>& tile) {
    const auto constants = this->constants<Score>();
    scores(tile);
    for (int64_t i = 0; i < kBlock; i += kLanes) {
      const V m = load(m_ + i), inv = load(l_ + i);
      for (int64_t j = keys_begin(tile, i); j < keys_end(tile, i); ++j) {
        A* at = s_ + j * kBlock + i;
        store(at, select(visible(tile, j, i), Score::probability(load(at), m, inv, constants), V(0)));
      }
    }
  }

  SLUICE_APART void drop(const KeyTile<A>& tile) {
    if (!tile.v.data) return;
    dropout_.draw(first_, count_, tile.first);
    for (int64_t i = 0; i < kBlock; i += kLanes) dropout_.drop_columns(s_, i, keys_begin(tile, i), keys_end(tile, i));
  }

  void add_values(const KeyTile<A>& tile) {
    if (!tile.v.data) return;
    tile.seen.for_queries(count_, [&](int64_t i, int64_t n, int64_t begin, int64_t end) {
      tile_gemm<A>({s_ + begin * kBlock + i, 1, kBlock, tile.v.data + begin * tile.v.stride, tile.v.stride,
                    o_ + i * padded_v_, padded_v_, true},
                   n, padded_v_, min_of(tile.count, end) - begin);
    });
  }

  void zero_output() { std::memset(o_, 0, size_t(count_ * padded_v_) * sizeof(A)); }

  template <class Score>
  void rescale_output() {
    if constexpr (Score::kRunningMax) scale_rows(correction_);
  }
  void scale_output() { scale_rows(l_); }
  void scale_rows(const A* factors) {
    for (int64_t i = 0; i < count_; ++i) {
      if (factors[i] == A(1)) continue;
      const V factor(factors[i]);
      for (int64_t d = 0; d < padded_v_; d += kLanes)
        store(o_ + i * padded_v_ + d, load(o_ + i * padded_v_ + d) * factor);
    }
  }

  // Row statistics in place of running references and masses.
  template <class Score>
  void finish_rows() {
    const LearnedOfHead<A> learned = learned_of<A>(args_.learned, h_);
    for (int64_t i = 0; i < kBlock; ++i) {
      const RowStats<A> row = Score::finish(m_[i], l_[i], sees_.others[i], learned, constants<Score>());
      m_[i] = row.reference;
      l_[i] = row.inverse;
    }
  }

  void store_results() {
    A *references = stats(0), *inverses = stats(1);
    for (int64_t i = 0; i < count_; ++i) {
      S* out = head_row<S>(args_.out, shape_, b_, first_ + i, h_, D_v_);
      for_vectors<A>(D_v_, [&](int64_t d, int64_t n) { store_some(out + d, load(o_ + i * padded_v_ + d), n); });
      references[i] = m_[i];
      inverses[i] = l_[i];
    }
  }

  template <class Score>
  SLUICE_INLINE auto constants() const {
    return constants_of<Score, A>(args_.spec);
  }

  // The rows' references (0) or the inverses of their normalisers (1).
  A* stats(int64_t which) const {
    return static_cast<A*>(args_.stats.data) + ((which * shape_.B + b_) * shape_.H + h_) * shape_.T + first_;
  }

  const AttentionForward& args_;
  const AttentionShape& shape_;
  const int64_t D_qk_ = shape_.D_qk, D_v_ = shape_.D_v;
  const int64_t b_, h_, kv_, first_, count_, padded_qk_, padded_v_;
  alignas(64) A q_[kMaxHead * kBlock];  // [D_qk, kBlock], scaled
  alignas(64) A k_[kBlock * kMaxHead];  // converted keys and values, where needed
  alignas(64) A v_[kBlock * kMaxHead];
  alignas(64) A o_[kBlock * kMaxHead];  // [count, padded_v]
  alignas(64) A s_[kBlock * kBlock];    // [keys, queries]
  alignas(64) A m_[kBlock], l_[kBlock], correction_[kBlock];
  SeenRows<A> sees_;
  TileDropout<A> dropout_;
};

// body(QueryBlock&) for every block of every head, in parallel; the longest rows first.
template <class S, class Body>
void for_query_blocks(const AttentionForward& args, Body body) {
  const AttentionShape& s = args.spec.shape;
  const int64_t blocks = (s.T + kBlock - 1) / kBlock, heads = s.B * s.H;
#pragma omp parallel for schedule(dynamic)
  for (int64_t task = 0; task < blocks * heads; ++task) {
    const int64_t bh = task % heads, block = blocks - 1 - task / heads;
    QueryBlock<S> queries(args, bh / s.H, bh % s.H, block * kBlock);
    body(queries);
  }
}

}  // namespace

template <>
void on(const AttentionForward& op) {
  with_storage(op.q.dtype, [&](auto storage) {
    ScoreFunctions::dispatch(op.spec.score, [&](auto score) {
      for_query_blocks<decltype(storage)>(op, [](auto& queries) { queries.template forward<decltype(score)>(); });
    });
  });
}

template <>
void on(const AttentionProbe& op) {
  with_storage(op.forward.q.dtype, [&](auto storage) {
    ScoreFunctions::dispatch(op.forward.spec.score, [&](auto score) {
      for_query_blocks<decltype(storage)>(op.forward,
                                          [&](auto& queries) { queries.template probe<decltype(score)>(op); });
    });
  });
}

}  // namespace sluice::SLUICE_ISA
