// Causal attention, forward: O_i = sum_j p_ij v_j (kernels/ops/attention.h, kernels/formulas/scores/score.h).
//
// A block owns 64 or 128 queries of one head, the longest rows first, and walks over tiles of keys and values. Every
// row keeps the reference m, its share of the normaliser l (summed over the quad at the end) and the unnormalised
// output; when m grows, l and the output are rescaled. Functions that are not linear in their weights walk twice.
#include "kernels/cuda/attention/attention_dropout.cuh"

namespace sluice::cuda {
namespace {

inline constexpr int kThreads = 4 * kWarp;

template <class S>
struct ForwardProblem : AttentionProblem {
  Rows<const S> q, k, v;
  Rows<S> out;
  float* stats;
};

// Two strips a warp halve what a product reads of keys and values; wide heads lack the registers for it.
template <class S, int kD>
struct ForwardTiling {
  static constexpr int kBytes = kD * int(sizeof(S));
  static constexpr int kStrips = sizeof(S) == 2 && kD <= 64 ? 2 : 1;
  static constexpr int kQueries = 64 * kStrips;
  static constexpr int kKeys = kBytes <= 256 ? 64 : kBytes <= 512 ? 32 : 16;
  static constexpr bool kHeld = sizeof(S) == 2 && kD <= 128;
  static constexpr int kTile = kKeys * kTileStride<kD>;  // elements of a tile of keys
  static constexpr size_t kShared = (kQueries * kTileStride<kD> + 4 * kTile) * sizeof(S);
};

// The state of a warp's rows.
template <class S, class Score, int kD>
struct ForwardRows {
  using Tiling = ForwardTiling<S, kD>;
  static constexpr int kStrips = Tiling::kStrips, kTiles = Tiling::kKeys / 8, kRows = 2 * kStrips;

  const AttentionProblem& p;
  int b, h, first;             // the sequence, the head; position of the warp's first query
  int first_seen, last_start;  // the first keys that its first and its last row see
  int first_end, end_seen;     // behind the last keys that these see
  float m[kRows], l[kRows];    // l: this lane's share; after `finish`, both are the row's statistics
  float out[kStrips][kD / 8][4];
  float bias_score[kRows];  // of the key bias

  __device__ __forceinline__ ForwardRows(const AttentionProblem& problem, int sequence, int first_query, int head)
      : p(problem),
        b(sequence),
        h(head),
        first(first_query),
        first_seen(first_key_of(p, b, first)),
        last_start(first_key_of(p, b, first + 16 * kStrips - 1)),
        first_end(end_key_of(p, b, first)),
        end_seen(end_key_of(p, b, first + 16 * kStrips - 1)) {
    const LearnedOfHead<float> learned = learned_of(p, h);
    const int g = lane_index() / 4;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = first + 8 * r + g;
      const RowStart<float> start = row_start<Score>(p, float(others_of(p, b, row)), learned);
      m[r] = start.reference;
      l[r] = lane_index() % 4 == 0 ? start.mass : 0.0f;
    }
    set_zero(out);
  }

  __device__ __forceinline__ auto constants() const { return constants_of<Score>(p); }

  // Whether some row of the warp sees a key of the tile.
  __device__ __forceinline__ bool sees(int first_key) const {
    return first < p.T && first_key < end_seen && first_key + Tiling::kKeys > first_seen;
  }

  // The key bias is the first key.
  __device__ __forceinline__ void absorb_bias(const S* q, int kv) {
    dot_rows<kRows, kD>(bias_score, q, p.key_bias + int64_t(kv) * p.D_qk, p.D_qk);
    float weights[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      bias_score[r] *= p.scale;
      if constexpr (Score::kRunningMax) raise_reference(r, bias_score[r]);
      weights[r] = Score::weight(bias_score[r], m[r], constants());
      if (lane_index() % 4 == 0) l[r] += Score::mass(bias_score[r], m[r], weights[r], constants());
    }
    if constexpr (!Score::kTwoPass) add_bias_value(weights, kv);
  }

  __device__ __forceinline__ void add_bias_value(const float (&weights)[kRows], int kv) {
    if (!p.value_bias) return;
    float kept[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) kept[r] = weights[r] * slot_factor(p, b, h, first + 8 * r + lane_index() / 4);
    add_outer(out, kept, p.value_bias + int64_t(kv) * p.D_v, p.D_v);
  }

  // Of a tile's weights, before values are added up.
  __device__ __forceinline__ void drop_weights(float (&s)[kStrips][kTiles][4], int first_key) const {
    if (p.dropout_keys)
      drop(s, dropped_of_queries<kStrips, kTiles>(HeadDropout(p, b, h), first, first_key), p.dropout_scale);
  }

  // Products q . k of a tile into unnormalised weights, in place; m, l and the output follow the reference.
  __device__ __forceinline__ void absorb(float (&s)[kStrips][kTiles][4], int first_key) {
    if (first_key + Tiling::kKeys > first_end || first_key < last_start || p.order) absorb_tile<true>(s, first_key);
    else absorb_tile<false>(s, first_key);
  }

  template <bool kMasked>
  __device__ __forceinline__ void absorb_tile(float (&s)[kStrips][kTiles][4], int first_key) {
    int begin[kRows] = {};
    if constexpr (kMasked) load_begins(begin, first_key);
    if constexpr (Score::kRunningMax) {
      float largest[kRows], corrections[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) largest[r] = kMinusInfinity<float>;
      for_elements<kStrips, kTiles>([&](Place at) {
        float& x = s[at.strip][at.tile][at.e];
        x *= p.scale;
        if (!kMasked || sees(at, first_key, begin)) largest[at.r] = fmaxf(largest[at.r], x);
      });
#pragma unroll
      for (int r = 0; r < kRows; ++r) corrections[r] = raise_reference(r, quad_max(largest[r]));
      if constexpr (!Score::kTwoPass) scale_rows(out, corrections);
    }
    for_elements<kStrips, kTiles>([&](Place at) {
      float& x = s[at.strip][at.tile][at.e];
      const float score = Score::kRunningMax ? x : x * p.scale;
      const float w = Score::weight(score, m[at.r], constants());
      const float u = Score::mass(score, m[at.r], w, constants());
      const bool seen = !kMasked || sees(at, first_key, begin);
      x = seen ? w : 0.0f;
      l[at.r] += seen ? u : 0.0f;
    });
  }

  // Products q . k of a tile into final weights (kTwoPass).
  __device__ __forceinline__ void to_probabilities(float (&s)[kStrips][kTiles][4], int first_key) const {
    int begin[kRows];
    load_begins(begin, first_key);
    for_elements<kStrips, kTiles>([&](Place at) {
      float& x = s[at.strip][at.tile][at.e];
      const bool seen = sees(at, first_key, begin);
      x = seen ? Score::probability(x * p.scale, m[at.r], l[at.r], constants()) : 0.0f;
    });
  }

  __device__ __forceinline__ void finish() {
    const LearnedOfHead<float> learned = learned_of(p, h);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = first + 8 * r + lane_index() / 4;
      const RowStats<float> stats =
          Score::finish(m[r], quad_sum(l[r]), float(others_of(p, b, row)), learned, constants());
      m[r] = stats.reference, l[r] = stats.inverse;
    }
  }

 private:
  // The column of a tile at which each row begins to see keys. Not kept: few tiles are masked, registers are short.
  __device__ __forceinline__ void load_begins(int (&begin)[kRows], int first_key) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) begin[r] = first_key_of(p, b, first + 8 * r + lane_index() / 4) - first_key;
  }
  __device__ __forceinline__ bool sees(Place at, int first_key, const int (&begin)[kRows]) const {
    if (!is_causal(p)) return sees_key(p, b, first + 8 * at.r + lane_index() / 4, first_key + at.column);
    return at.above <= first - first_key && at.column >= begin[at.r];
  }

  // Returns what everything summed so far is multiplied by; l already was. A NaN leaves m as it is and shows in the
  // weight; a row that has seen no key yet keeps its -inf.
  __device__ __forceinline__ float raise_reference(int r, float score) {
    const float before = m[r];
    m[r] = fmaxf(before, score);
    const float correction = before == m[r] ? 1.0f : exp_of(before - m[r]);
    l[r] *= correction;
    return correction;
  }
};

// A block of queries of one head, and the tiles of keys that its rows see.
template <class S, class Score, int kD>
struct ForwardBlock {
  using Tiling = ForwardTiling<S, kD>;
  using Left = LeftRows<S, Tiling::kStrips, kD, Tiling::kHeld>;
  static constexpr int kStride = kTileStride<kD>, kKeys = Tiling::kKeys;

  const ForwardProblem<S>& p;
  S *const q, *const k, *const v;
  const int heads, blocks, bh, b, h, kv;
  const int first, first_tile, tiles, first_key;

  __device__ __forceinline__ ForwardBlock(const ForwardProblem<S>& problem, S* shared)
      : p(problem),
        q(shared),
        k(q + Tiling::kQueries * kStride),
        v(k + 2 * Tiling::kTile),
        heads(p.B * p.H),
        blocks(int(gridDim.x) / heads),
        bh(int(blockIdx.x) % heads),
        b(bh / p.H),
        h(bh % p.H),
        kv(h / p.group()),
        first((blocks - 1 - int(blockIdx.x) / heads) * Tiling::kQueries),
        first_tile(first_key_of(p, b, first) / kKeys),
        tiles((end_key_of(p, b, first + Tiling::kQueries - 1) - 1) / kKeys + 1 - first_tile),
        first_key(first_tile * kKeys) {}

  __device__ __forceinline__ void load_keys(int tile, int buffer) const {
    const int key = first_key + tile * kKeys;
    load_tile<kKeys, kD, kThreads>(k + buffer * Tiling::kTile, head_row(p.k, p, b, key, kv, p.D_qk), p.k.stride,
                                   p.T - key, p.D_qk, p.vectors);
  }
  __device__ __forceinline__ void load_both(int tile, int buffer) const {
    load_keys(tile, buffer);
    const int key = first_key + tile * kKeys;
    load_tile<kKeys, kD, kThreads>(v + buffer * Tiling::kTile, head_row(p.v, p, b, key, kv, p.D_v), p.v.stride,
                                   p.T - key, p.D_v, p.vectors);
  }

  // The queries, and with them the first tile.
  __device__ __forceinline__ void load_first() const {
    load_tile<Tiling::kQueries, kD, kThreads>(q, head_row(p.q, p, b, first, h, p.D_qk), p.q.stride, p.T - first, p.D_qk,
                                              p.vectors);
    copy_async_commit();
    if constexpr (Score::kTwoPass) load_keys(0, 0);
    else load_both(0, 0);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
  }

  // use(q . k of a tile, its first key, its buffer) for the tiles that the warp's rows see.
  template <class Load, class Use>
  __device__ __forceinline__ void for_scores(const ForwardRows<S, Score, kD>& rows, const Left& left, Load load,
                                             Use use) const {
    walk_tiles(tiles, load, [&](int tile, int buffer) {
      if (!rows.sees(first_key + tile * kKeys)) return;
      float s[Tiling::kStrips][kKeys / 8][4];
      multiply_columns(s, left, k + buffer * Tiling::kTile, kStride);
      use(s, first_key + tile * kKeys, buffer);
    });
  }

  // Statistics first, then every score again: weights are not linear in the unnormalised ones.
  __device__ __forceinline__ void two_passes(ForwardRows<S, Score, kD>& rows, const Left& left) const {
    for_scores(
        rows, left, [&](int tile, int buffer) { load_keys(tile, buffer); },
        [&](auto& s, int key, int) { rows.absorb(s, key); });
    rows.finish();
    __syncthreads();
    load_both(0, 0);
    copy_async_commit();
    if (p.key_bias) {
      float weights[2 * Tiling::kStrips];
      for (int r = 0; r < 2 * Tiling::kStrips; ++r)
        weights[r] = Score::probability(rows.bias_score[r], rows.m[r], rows.l[r], constants_of<Score>(p));
      set_zero(rows.out);
      rows.add_bias_value(weights, kv);
    }
    for_scores(
        rows, left, [&](int tile, int buffer) { load_both(tile, buffer); },
        [&](auto& s, int key, int buffer) {
          rows.to_probabilities(s, key);
          rows.drop_weights(s, key);
          add_product(rows.out, s, v + buffer * Tiling::kTile, kStride);
        });
  }

  __device__ __forceinline__ void one_pass(ForwardRows<S, Score, kD>& rows, const Left& left) const {
    for_scores(
        rows, left, [&](int tile, int buffer) { load_both(tile, buffer); },
        [&](auto& s, int key, int buffer) {
          rows.absorb(s, key);
          rows.drop_weights(s, key);
          add_product(rows.out, s, v + buffer * Tiling::kTile, kStride);
        });
    rows.finish();
    scale_rows(rows.out, rows.l);
  }

  // `row` is the warp's first query; its rows of q give way to the results.
  __device__ __forceinline__ void store(const ForwardRows<S, Score, kD>& rows, int row, S* warp_q) const {
    float *const references = p.stats + int64_t(bh) * p.T, *const inverses = references + int64_t(p.B) * p.H * p.T;
    for (int r = 0; r < 2 * Tiling::kStrips; ++r) {
      const int i = row + 8 * r + lane_index() / 4;
      if (lane_index() % 4 == 0 && i < p.T) references[i] = rows.m[r], inverses[i] = rows.l[r];
    }
    store_rows<kD>(head_row(p.out, p, b, row, h, p.D_v), p.out.stride, p.T - row, rows.out, warp_q, p.D_v, p.vectors);
  }
};

template <class S, class Score, int kD>
__global__ void __launch_bounds__(kThreads) forward_kernel(const ForwardProblem<S> p) {
  using Block = ForwardBlock<S, Score, kD>;
  const Block block(p, reinterpret_cast<S*>(dynamic_shared()));
  block.load_first();
  const int warp_row = warp_index() * 16 * Block::Tiling::kStrips, row = block.first + warp_row;
  S* const warp_q = block.q + warp_row * Block::kStride;
  typename Block::Left left(warp_q, Block::kStride);
  left.hold();
  ForwardRows<S, Score, kD> rows(p, block.b, row, block.h);
  if (p.key_bias) rows.absorb_bias(warp_q, block.kv);
  if constexpr (Score::kTwoPass) block.two_passes(rows, left);
  else block.one_pass(rows, left);
  block.store(rows, row, warp_q);
}

template <class S>
void forward(const AttentionForward& op, cudaStream_t stream) {
  const bool vectors = allow_vectors<S>(op.spec.shape, op.q, op.k, op.v, op.out);
  const ForwardProblem<S> p{problem_of(op, op.first_key, vectors),
                            rows_of<const S>(op.q),
                            rows_of<const S>(op.k),
                            rows_of<const S>(op.v),
                            rows_of<S>(op.out),
                            floats(op.stats)};
  with_formula_and_class(p, [&](auto formula, auto head_class) {
    using Tiling = ForwardTiling<S, head_class()>;
    const int blocks = (p.T + Tiling::kQueries - 1) / Tiling::kQueries;
    launch(forward_kernel<S, decltype(formula), head_class()>, dim3(unsigned(blocks * p.B * p.H)), dim3(kThreads),
           Tiling::kShared, stream, p);
  });
}

}  // namespace

template <>
void on(const AttentionForward& op, const Queue& queue) {
  with_element(view_of(op.q).element, [&](auto element) { forward<decltype(element)>(op, queue.stream); });
}

}  // namespace sluice::cuda
