// Attention, backward. With p_ij and ds_ij = dL/ds_ij recomputed tile by tile from the forward's row statistics:
//
//   dV_j = sum_i p_ij dO_i     dK_j = scale * sum_i ds_ij q_i     dQ_i = scale * sum_j ds_ij k_j     dp_ij = dO_i . v_j
//
// Three passes. (1) delta_i, per query block. (2) Per (batch, key/value head, chunk of key blocks): dK and dV stay in
// registers and L1 while all later queries pass by; dQ is summed into this task's own slice of the workspace. (3) The
// slices are added in order. No atomics: the result does not depend on threads. A SIMD lane is a key here, so that the
// key block is transposed once for all queries. The key bias is one more block, of a single key that every query sees.
// Where rows have a first key, a last one or an order, the queries that see a block are a range of them, as are the
// blocks that a query sees: the rest is left out. A chunk is every so many-th key block, as early ones have more
// queries; within a window, where all have the same, blocks side by side, so that few slices have a share in a row of
// dQ.
#include "kernels/cpu/isa/attention_tiles.h"

namespace sluice::SLUICE_ISA {
namespace {

template <class S, class Score>
class Backward {
 public:
  using A = Acc<S>;
  using V = Vec<A>;
  static constexpr int64_t kLanes = V::kLanes;

  explicit Backward(const AttentionBackward& args)
      : args_(args), in_(args.forward), workspace_(static_cast<A*>(args.workspace.data)) {}

  void run() {
    if (Score::kNeedsDelta) compute_delta();
    if constexpr (0 < kLearnedCount<Score>) reduce_learned();
    const int64_t tasks = shape_.B * shape_.KV * layout_.chunks;
#pragma omp parallel for schedule(dynamic)
    for (int64_t task = 0; task < tasks; ++task) key_task(task / layout_.chunks, task % layout_.chunks);
    reduce_d_q();
    if (in_.key_bias) reduce_slot();
  }

 private:
  // --- pass 1

  void compute_delta() {
    const int64_t blocks = (shape_.T + kBlock - 1) / kBlock, heads = shape_.B * shape_.H;
#pragma omp parallel for schedule(dynamic)
    for (int64_t task = 0; task < blocks * heads; ++task) {
      const int64_t bh = task % heads, first = (blocks - 1 - task / heads) * kBlock;
      if constexpr (Score::kOwnDelta) own_delta(bh / shape_.H, bh % shape_.H, first);
      else output_delta(bh / shape_.H, bh % shape_.H, first);
    }
  }

  void output_delta(int64_t b, int64_t h, int64_t first) {
    for (int64_t t = first; t < min_of(first + kBlock, shape_.T); ++t) {
      const S* out = head_row<S>(in_.out, shape_, b, t, h, D_v_);
      const S* d_out = head_row<S>(args_.d_out, shape_, b, t, h, D_v_);
      V sum(0);
      for_vectors<A>(D_v_, [&](int64_t d, int64_t n) { sum += load_some(out + d, n) * load_some(d_out + d, n); });
      delta(b, h)[t] = sum_of(sum);
    }
  }

  // delta_i = sum_j delta_term(s_ij, dp_ij), and for kOwnLearned sum_j learned_term(s_ij, dp_ij)
  void own_delta(int64_t b, int64_t h, int64_t first) {
    QueryRows<S> queries;
    load_queries(queries, b, h, first);
    A *sums = delta(b, h) + first, *learned = learned_sums(b, h) + first;
    for (A* of_rows : {sums, Score::kOwnLearned ? learned : sums})
      for (int64_t i = 0; i < queries.count; ++i) of_rows[i] = 0;
    KeyBlock<S> keys;
    const auto add = [&] {
      const SeenStrips seen = queries.strips(keys);
      products(queries, keys, seen);
      for (int64_t i = 0; i < queries.count; ++i) {
        const V m(queries.m[i]), inv(queries.inverse[i]);
        V sum(0), sum_learned(0);
        for (int64_t j = seen.keys_begin[i / kStrip]; j < seen.keys_end[i / kStrip]; j += kLanes) {
          const V s = load(queries.s + i * kBlock + j) * V(scale_), dp = load(queries.dp + i * kBlock + j);
          // Before `sees`, whose branch would part a product from the sum that it is fused with.
          const V term = Score::delta_term(s, m, inv, dp, constants_);
          const Mask<A> sees = queries.sees(keys, i, j);
          sum += select(sees, term, V(0));
          if constexpr (Score::kOwnLearned)
            sum_learned += select(sees, Score::learned_term(s, m, inv, dp, constants_), V(0));
        }
        sums[i] += sum_of(sum);
        if constexpr (Score::kOwnLearned) learned[i] += sum_of(sum_learned);
      }
    };
    const int64_t kv = h / group_;
    if (in_.key_bias) load_slot(keys, kv), add();
    const int64_t end = end_key_of(in_, b, first + queries.count - 1);
    for (int64_t key = first_key_of(in_, b, first) / kBlock * kBlock; key < end; key += kBlock)
      load_keys(keys, b, kv, key), add();
  }

  // --- pass 2

  void key_task(int64_t b_kv, int64_t chunk) {
    const int64_t b = b_kv / shape_.KV, kv = b_kv % shape_.KV;
    const Range blocks = blocks_of(chunk), rows = rows_of(chunk);
    for (int64_t g = 0; g < group_; ++g)
      std::memset(d_q(chunk, b, kv * group_ + g) + rows.begin * padded_qk_, 0,
                  size_t((rows.end - rows.begin) * padded_qk_) * sizeof(A));
    KeyBlock<S> keys;
    if (chunk == 0 && in_.key_bias) {
      load_slot(keys, kv);
      against_queries(keys, b, kv, chunk);
      A *slot_key = slot_keys() + b_kv * D_qk_, *slot_value = slot_values() + b_kv * D_v_;
      for (int64_t d = 0; d < D_qk_; ++d) slot_key[d] = scale_ * keys.d_k[d];
      for (int64_t d = 0; d < D_v_; ++d) slot_value[d] = keys.d_v[d];
    }
    for (int64_t block = blocks.begin; block < blocks.end; block += blocks.step) {
      load_keys(keys, b, kv, block * kBlock);
      against_queries(keys, b, kv, chunk);
      store_key_rows(args_.d_k, keys.d_k, D_qk_, keys, shape_, b, kv, scale_);
      store_key_rows(args_.d_v, keys.d_v, D_v_, keys, shape_, b, kv, A(1));
    }
  }

  struct Range {
    int64_t begin, end, step = 1;
  };
  // The key blocks of a chunk, and the rows of dQ that its slice holds: those that see some of their keys, which with a
  // bias slot are all.
  Range blocks_of(int64_t chunk) const {
    const int64_t blocks = (shape_.T + kBlock - 1) / kBlock,
                  side_by_side = (blocks + layout_.chunks - 1) / layout_.chunks;
    if (!windowed_) return {chunk, blocks, layout_.chunks};
    return {min_of(chunk * side_by_side, blocks), min_of((chunk + 1) * side_by_side, blocks)};
  }
  Range rows_of(int64_t chunk) const {
    if (!windowed_ || (chunk == 0 && in_.key_bias)) return {0, shape_.T};
    const Range blocks = blocks_of(chunk);
    const int64_t first = blocks.begin * kBlock, last = min_of(blocks.end * kBlock, shape_.T) - 1;
    if (first >= shape_.T) return {shape_.T, shape_.T};
    const int64_t behind = min_of(pieces_of(last + in_.spec.window, kBlock) * kBlock, shape_.T);
    if (causal_) return {first, behind};
    if (!ordered_) return {max_of(first - in_.spec.window + 1, int64_t(0)) / kBlock * kBlock, behind};
    // Windows are the same in all sequences, and a row sees those that see it.
    return {first_key_of(in_, 0, first) / kBlock * kBlock,
            min_of(pieces_of(end_key_of(in_, 0, last), kBlock) * kBlock, shape_.T)};
  }

  // All queries that see this block of keys, of every head that shares it.
  void against_queries(KeyBlock<S>& keys, int64_t b, int64_t kv, int64_t chunk) {
    std::memset(keys.d_k, 0, size_t(keys.count * padded_qk_) * sizeof(A));
    std::memset(keys.d_v, 0, size_t(keys.count * padded_v_) * sizeof(A));
    QueryRows<S> queries;
    const int64_t begin = keys.first < 0 ? 0
                          : causal_      ? keys.first
                                         : first_key_of(in_, b, keys.first) / kBlock * kBlock;
    for (int64_t h = kv * group_; h < (kv + 1) * group_; ++h)
      for (int64_t first = begin; first < shape_.T; first += kBlock) {
        if (keys.first >= 0 && first_key_of(in_, b, first) >= keys.first + keys.count) break;
        load_queries(queries, b, h, first);
        const SeenStrips seen = queries.strips(keys);
        products(queries, keys, seen);
        differentiate(queries, keys, seen);
        add_gradients(queries, keys, seen, d_q(chunk, b, h) + first * padded_qk_);
      }
  }

  // s[i, j] = q_i . k_j, not scaled yet, dp[i, j] = dO_i . v_j, or of a weight that is dropped 0
  void products(QueryRows<S>& queries, const KeyBlock<S>& keys, const SeenStrips& seen) {
    seen.for_queries(queries.count, [&](int64_t i, int64_t rows, int64_t begin, int64_t end) {
      A *s = queries.s + i * kBlock + begin, *dp = queries.dp + i * kBlock + begin;
      tile_gemm<A>({queries.q.data + i * queries.q.stride, queries.q.stride, 1, keys.k_columns + begin, kBlock, s,
                    kBlock, false},
                   rows, end - begin, D_qk_);
      if (keys.has_values)
        tile_gemm<A>({queries.d_o.data + i * queries.d_o.stride, queries.d_o.stride, 1, keys.v_columns + begin, kBlock,
                      dp, kBlock, false},
                     rows, end - begin, D_v_);
      else std::memset(queries.dp + i * kBlock, 0, size_t(rows * kBlock) * sizeof(A));
    });
    if (!queries.dropout) return;
    queries.dropout.draw(queries.first, queries.count, keys.first);
    queries.drop(queries.dp, seen);
  }

  void add_gradients(const QueryRows<S>& queries, KeyBlock<S>& keys, const SeenStrips& seen, A* d_q) {
    seen.for_keys(keys.count, [&](int64_t j, int64_t rows, int64_t begin, int64_t end) {
      const A *p = queries.s + begin * kBlock + j, *ds = queries.dp + begin * kBlock + j;
      const int64_t summed = min_of(queries.count, end) - begin;
      tile_gemm<A>({p, 1, kBlock, queries.d_o.data + begin * queries.d_o.stride, queries.d_o.stride,
                    keys.d_v + j * padded_v_, padded_v_, true},
                   rows, padded_v_, summed);
      tile_gemm<A>({ds, 1, kBlock, queries.q.data + begin * queries.q.stride, queries.q.stride,
                    keys.d_k + j * padded_qk_, padded_qk_, true},
                   rows, padded_qk_, summed);
    });
    seen.for_queries(queries.count, [&](int64_t i, int64_t rows, int64_t begin, int64_t end) {
      tile_gemm<A>({queries.dp + i * kBlock + begin, kBlock, 1, keys.rows.data + begin * keys.rows.stride,
                    keys.rows.stride, d_q + i * padded_qk_, padded_qk_, true},
                   rows, padded_qk_, min_of(keys.count, end) - begin);
    });
  }

  // s into p, dp into ds.
  void differentiate(QueryRows<S>& queries, const KeyBlock<S>& keys, const SeenStrips& seen) {
    for (int64_t i = 0; i < queries.count; ++i) {
      const V m(queries.m[i]), inv(queries.inverse[i]);
      const V delta(Score::kNeedsDelta ? queries.delta[i] : A(0));
      for (int64_t j = seen.keys_begin[i / kStrip]; j < seen.keys_end[i / kStrip]; j += kLanes) {
        A *s_at = queries.s + i * kBlock + j, *dp_at = queries.dp + i * kBlock + j;
        const V s = load(s_at) * V(scale_), dp = load(dp_at);
        const V p = Score::probability(s, m, inv, constants_);
        const V ds = Score::d_score(s, m, inv, p, dp, delta, constants_);
        const Mask<A> seen = queries.sees(keys, i, j);
        store(s_at, select(seen, p, V(0)));
        store(dp_at, select(seen, ds, V(0)));
      }
    }
    if (queries.dropout) queries.drop(queries.s, seen);  // as values were added up
  }

  // --- pass 3

  void reduce_d_q() {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < shape_.B * shape_.T; ++row) {
      const int64_t b = row / shape_.T, t = row % shape_.T;
      int64_t sharing[kAttentionTasks], count = 0;  // chunks with a share in the row
      for (int64_t chunk = 0; chunk < layout_.chunks; ++chunk)
        if (const Range rows = rows_of(chunk); t >= rows.begin && t < rows.end) sharing[count++] = chunk;
      for (int64_t h = 0; h < shape_.H; ++h) {
        S* out = head_row<S>(args_.d_q, shape_, b, t, h, D_qk_);
        for_vectors<A>(D_qk_, [&](int64_t d, int64_t n) {
          V sum(0);
          for (int64_t i = 0; i < count; ++i) sum += load(d_q(sharing[i], b, h) + t * padded_qk_ + d);
          store_some(out + d, sum * V(scale_), n);
        });
      }
    }
  }

  void reduce_slot() {
    add_batches(args_.d_key_bias, slot_keys(), shape_.KV * D_qk_);
    if (args_.d_value_bias) add_batches(args_.d_value_bias, slot_values(), shape_.KV * D_v_);
  }
  void add_batches(const Tensor& gradient, const A* shares, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      A sum = 0;
      for (int64_t b = 0; b < shape_.B; ++b) sum += shares[b * count + i];
      add_to_gradient(gradient, i, sum);
    }
  }

  // How many keys beside its own each of the rows [t, t + n) sees.
  SLUICE_INLINE V others(int64_t b, int64_t t, int64_t n) const {
    alignas(64) A out[kLanes] = {};
    for (int64_t i = 0; i < n; ++i) out[i] = A(others_of(in_, b, t + i));
    return load(out);
  }

  // The sum of d_learned over a head's rows. Lanes beyond the last row have a delta of 0, and so no share.
  void reduce_learned() {
    for (int64_t h = 0; h < shape_.H; ++h) {
      const LearnedOfHead<A> learned = learned_of<A>(in_.learned, h);
      A totals[kLearnedCount<Score>] = {};
      for (int64_t b = 0; b < shape_.B; ++b) {
        const A *m = references(b, h), *inv = inverses(b, h),
                *row_sums = Score::kOwnLearned ? learned_sums(b, h) : delta(b, h);
        V sums[kLearnedCount<Score>];
        for (V& sum : sums) sum = V(0);
        for_vectors<A>(shape_.T, [&](int64_t t, int64_t n) {
          const LearnedOfHead<V> d = Score::d_learned(others(b, t, n), load_some(m + t, n), load_some(inv + t, n),
                                                      load_some(row_sums + t, n), learned, constants_);
          for (int i = 0; i < kLearnedCount<Score>; ++i) sums[i] += d.at[i];
        });
        for (int i = 0; i < kLearnedCount<Score>; ++i) totals[i] += sum_of(sums[i]);
      }
      for (int i = 0; i < kLearnedCount<Score>; ++i) add_to_gradient(args_.d_learned.at[i], h, totals[i]);
    }
  }

  void add_to_gradient(const Tensor& gradient, int64_t index, A value) {
    A& at = static_cast<A*>(gradient.data)[index];
    at = args_.accumulate ? at + value : value;
  }

  // --- where things are

  A* delta(int64_t b, int64_t h) const { return workspace_ + layout_.delta + (b * shape_.H + h) * shape_.T; }
  A* d_q(int64_t chunk, int64_t b, int64_t h) const {
    return workspace_ + layout_.d_q + ((chunk * shape_.B + b) * shape_.H + h) * shape_.T * padded_qk_;
  }
  // Rows' sums of learned_term, where d_q will be: they are added up before pass 2 writes there.
  A* learned_sums(int64_t b, int64_t h) const { return d_q(0, b, h); }
  A* slot_keys() const { return workspace_ + layout_.slot_keys; }
  A* slot_values() const { return workspace_ + layout_.slot_values; }
  const A* references(int64_t b, int64_t h) const {
    return static_cast<const A*>(in_.stats.data) + (b * shape_.H + h) * shape_.T;
  }
  const A* inverses(int64_t b, int64_t h) const { return references(shape_.B + b, h); }

  void load_queries(QueryRows<S>& queries, int64_t b, int64_t h, int64_t first) const {
    queries.first = first;
    queries.count = min_of(kBlock, shape_.T - first);
    queries.load_seen(in_, b);
    queries.q = tile_rows(head_row<S>(in_.q, shape_, b, first, h, D_qk_), in_.q.stride, queries.count, D_qk_,
                          padded_qk_, queries.q_scratch);
    queries.d_o = tile_rows(head_row<S>(args_.d_out, shape_, b, first, h, D_v_), args_.d_out.stride, queries.count,
                            D_v_, padded_v_, queries.d_o_scratch);
    queries.m = references(b, h) + first;
    queries.inverse = inverses(b, h) + first;
    queries.delta = delta(b, h) + first;
    queries.dropout.set(in_, b, h);
  }

  void load_keys(KeyBlock<S>& keys, int64_t b, int64_t kv, int64_t first) const {
    keys.load_block(head_row<S>(in_.k, shape_, b, first, kv, D_qk_), in_.k.stride,
                    head_row<S>(in_.v, shape_, b, first, kv, D_v_), in_.v.stride, first,
                    min_of(kBlock, shape_.T - first), shape_);
    keys.load_places(in_, b);
  }

  void load_slot(KeyBlock<S>& keys, int64_t kv) const {
    const A* k = static_cast<const A*>(in_.key_bias.data) + kv * D_qk_;
    const A* v = in_.value_bias ? static_cast<const A*>(in_.value_bias.data) + kv * D_v_ : nullptr;
    keys.load_block(k, D_qk_, v, D_v_, -1, 1, shape_);
    keys.load_places(in_, 0);
  }

  const AttentionBackward& args_;
  const AttentionForward& in_;
  const AttentionShape& shape_ = in_.spec.shape;
  const typename Score::template Constants<A> constants_ = constants_of<Score, A>(in_.spec);
  const A scale_ = A(in_.spec.scale);
  const AttentionWorkspace layout_{shape_};
  const bool ordered_ = bool(in_.order), causal_ = !ordered_ && !in_.last_key;
  const bool windowed_ = ordered_ || (in_.spec.window > 0 && in_.spec.window < shape_.T);
  const int64_t group_ = shape_.H / shape_.KV, D_qk_ = shape_.D_qk, D_v_ = shape_.D_v;
  const int64_t padded_qk_ = whole_vectors<A>(D_qk_), padded_v_ = whole_vectors<A>(D_v_);
  A* const workspace_;
};

}  // namespace

template <>
void on(const AttentionBackward& op) {
  with_storage(op.forward.q.dtype, [&](auto storage) {
    ScoreFunctions::dispatch(op.forward.spec.score,
                             [&](auto score) { Backward<decltype(storage), decltype(score)>(op).run(); });
  });
}

}  // namespace sluice::SLUICE_ISA
