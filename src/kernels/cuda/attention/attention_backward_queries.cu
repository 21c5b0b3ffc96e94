// Attention backward, the queries' side: delta_i and dQ_i = scale * sum_j ds_ij k_j (attention_backward.cuh).
//
// A block owns 64 queries of one head (32 where a row takes 1 KB), the longest rows first. Q and dO stay in shared
// memory, keys and values pass by. It also leaves its rows' share of what the parameters get:
//   d_key_bias = scale * sum_i ds_i q_i,  d_value_bias = sum_i p_i dO_i,  with p and ds of the bias slot;
//   and what the score function learns sum_i d_learned(row, m_i, 1/l_i, delta_i or a row sum of its own).
#include "kernels/cuda/attention/attention_backward.cuh"
#include "kernels/cuda/attention/attention_dropout.cuh"

namespace sluice::cuda {
namespace {

// A warp's rows: what d_score needs to know of each.
template <class S, class Score, int kD>
struct GradientRows {
  using Tiling = BackwardTiling<S, kD>;
  static constexpr int kStrips = Tiling::kStrips, kTiles = Tiling::kColumns / 8, kRows = 2 * kStrips;

  const AttentionProblem& p;
  int first;                 // position of the warp's first query
  int b, start[kRows];       // the sequence; the first key that each row sees,
  int first_seen, end_seen;  // the first that one does, and behind the last
  float m[kRows], inverse[kRows], delta[kRows];
  float learned_sum[kRows];  // of learned_term, for kOwnLearned
  float bias_score[kRows], bias_dp[kRows];

  // references and inverses: of the head's row 0.
  __device__ __forceinline__ GradientRows(const AttentionProblem& problem, int sequence, int first_query,
                                          const float* references, const float* inverses)
      : p(problem),
        first(first_query),
        b(sequence),
        first_seen(first_key_of(p, b, first)),
        end_seen(end_key_of(p, b, first + 16 * kStrips - 1)) {
    const int g = lane_index() / 4;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = first + 8 * r + g;
      start[r] = first_key_of(p, b, row);
      m[r] = row < p.T ? references[row] : 0.0f, inverse[r] = row < p.T ? inverses[row] : 0.0f;
      delta[r] = 0, learned_sum[r] = 0, bias_score[r] = 0, bias_dp[r] = 0;
    }
  }

  __device__ __forceinline__ bool sees(int first_key) const {
    return first < p.T && first_key < end_seen && first_key + Tiling::kColumns > first_seen;
  }
  __device__ __forceinline__ bool sees(Place at, int first_key) const {
    if (!is_causal(p)) return sees_key(p, b, first + 8 * at.r + lane_index() / 4, first_key + at.column);
    return at.above <= first - first_key && at.column >= start[at.r] - first_key;
  }
  __device__ __forceinline__ auto constants() const { return constants_of<Score>(p); }
  __device__ __forceinline__ bool exists(int r) const { return first + 8 * r + lane_index() / 4 < p.T; }

  __device__ __forceinline__ void read_bias(const S* q, const S* d_out, int kv, int h) {
    dot_rows<kRows, kD>(bias_score, q, p.key_bias + int64_t(kv) * p.D_qk, p.D_qk);
    if (p.value_bias) dot_rows<kRows, kD>(bias_dp, d_out, p.value_bias + int64_t(kv) * p.D_v, p.D_v);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      bias_score[r] *= p.scale;
      bias_dp[r] *= slot_factor(p, b, h, first + 8 * r + lane_index() / 4);
    }
  }

  // delta = O . dO; `out` is the warp's first row in global memory.
  __device__ __forceinline__ void delta_of_output(const S* out, int64_t stride, const S* d_out) {
    const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const S *o = out + (8 * r + g) * stride, *d_o = d_out + (8 * r + g) * kTileStride<kD>;
      float sum = 0;
      for (int d = t * kPack; d < (exists(r) ? p.D_v : 0); d += 4 * kPack) {
        float x[kPack], y[kPack];
        load(x, o + d, pack_count(p.D_v, d), p.vectors);
        load(y, d_o + d, kPack, true);
#pragma unroll
        for (int i = 0; i < kPack; ++i) sum += x[i] * y[i];
      }
      delta[r] = quad_sum(sum);
    }
  }

  // delta = sum_j delta_term, and the sum of learned_term: this lane's part, of one tile of q . k and dO . v.
  __device__ __forceinline__ void add_delta_terms(const float (&s)[kStrips][kTiles][4],
                                                  const float (&dp)[kStrips][kTiles][4], int first_key) {
    for_elements<kStrips, kTiles>([&](Place at) {
      const float score = s[at.strip][at.tile][at.e] * p.scale, x = dp[at.strip][at.tile][at.e];
      const float term = Score::delta_term(score, m[at.r], inverse[at.r], x, constants());
      const bool seen = sees(at, first_key);
      delta[at.r] += seen ? term : 0.0f;
      if constexpr (Score::kOwnLearned) {
        const float share = Score::learned_term(score, m[at.r], inverse[at.r], x, constants());
        learned_sum[at.r] += seen ? share : 0.0f;
      }
    });
  }
  __device__ __forceinline__ void finish_delta() {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      delta[r] = quad_sum(delta[r]);
      if (p.key_bias) delta[r] += Score::delta_term(bias_score[r], m[r], inverse[r], bias_dp[r], constants());
      if constexpr (Score::kOwnLearned) {
        learned_sum[r] = quad_sum(learned_sum[r]);
        if (p.key_bias) learned_sum[r] += Score::learned_term(bias_score[r], m[r], inverse[r], bias_dp[r], constants());
      }
    }
  }

  // dp of a tile into ds, in place.
  __device__ __forceinline__ void differentiate(const float (&s)[kStrips][kTiles][4], float (&dp)[kStrips][kTiles][4],
                                                int first_key) const {
    for_elements<kStrips, kTiles>([&](Place at) {
      const float score = s[at.strip][at.tile][at.e] * p.scale;
      float& x = dp[at.strip][at.tile][at.e];
      const float weight = Score::probability(score, m[at.r], inverse[at.r], constants());
      const float ds = Score::d_score(score, m[at.r], inverse[at.r], weight, x, delta[at.r], constants());
      x = sees(at, first_key) ? ds : 0.0f;
    });
  }

  // Weight and score gradient of the bias slot in row r; zeros where there is no such row.
  __device__ __forceinline__ float2 bias_gradient(int r) const {
    const float weight = Score::probability(bias_score[r], m[r], inverse[r], constants());
    const float ds = Score::d_score(bias_score[r], m[r], inverse[r], weight, bias_dp[r], delta[r], constants());
    return exists(r) ? make_float2(weight, ds) : make_float2(0, 0);
  }
  __device__ __forceinline__ LearnedOfHead<float> learned_gradient(int r, const LearnedOfHead<float>& learned) const {
    if (!exists(r)) return {};
    const float others = float(others_of(p, b, first + 8 * r + lane_index() / 4));
    return d_learned<Score>(p, others, m[r], inverse[r], Score::kOwnLearned ? learned_sum[r] : delta[r], learned);
  }

  // For the keys' kernel; `rows` is the first query's.
  __device__ __forceinline__ void publish(float4* rows) const {
    const int g = lane_index() / 4;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (lane_index() % 4 == 0) rows[first + 8 * r + g] = make_float4(m[r], inverse[r], delta[r], float(start[r]));
  }
};

// sum over the block's rows of weights[row] * rows[row][d], for every d.
template <int kRows, int kD, int kThreads, class S>
__device__ __forceinline__ void sum_weighted(float* out, const float (&weights)[kRows], const S* rows, int D) {
  for (int d = int(threadIdx.x); d < D; d += kThreads) {
    float sum = 0;
    for (int row = 0; row < kRows; ++row) sum += weights[row] * load_one(rows + row * kTileStride<kD> + d);
    out[d] = sum;
  }
}

// What a block's rows add to the gradients of a key bias and of what the score learns: of each row.
template <int kRows>
struct RowShares {
  float bias_weight[kRows], bias_ds[kRows], learned[kMostLearned][kRows];
};

// A block of queries of one head, and the tiles of keys that its rows see.
template <class S, class Score, int kD>
struct QueriesBlock {
  using Tiling = BackwardTiling<S, kD>;
  static constexpr int kStrips = Tiling::kStrips, kRows = Tiling::kRows, kKeys = Tiling::kColumns;
  static constexpr int kStride = kTileStride<kD>, kThreads = Tiling::kThreads;
  using Left = LeftRows<S, kStrips, kD, false>;
  using Scores = float[kStrips][kKeys / 8][4];
  using Gradients = GradientRows<S, Score, kD>;

  const BackwardProblem<S>& p;
  S *const q, *const d_out, *const k, *const v;
  const int heads, blocks, block, bh, b, h, kv;
  const int first, first_tile, tiles, first_key;
  const int warp_row, row;  // the warp's first query, in the block and in the sequence

  __device__ __forceinline__ QueriesBlock(const BackwardProblem<S>& problem, S* shared)
      : p(problem),
        q(shared),
        d_out(q + kRows * kStride),
        k(d_out + kRows * kStride),
        v(k + 2 * Tiling::kTile),
        heads(p.B * p.H),
        blocks(int(gridDim.x) / heads),
        block(blocks - 1 - int(blockIdx.x) / heads),
        bh(int(blockIdx.x) % heads),
        b(bh / p.H),
        h(bh % p.H),
        kv(h / p.group()),
        first(block * kRows),
        first_tile(first_key_of(p, b, first) / kKeys),
        tiles((end_key_of(p, b, first + kRows - 1) - 1) / kKeys + 1 - first_tile),
        first_key(first_tile * kKeys),
        warp_row(warp_index() * 16 * kStrips),
        row(first + warp_row) {}

  __device__ __forceinline__ void load_keys(int tile, int buffer) const {
    const int key = first_key + tile * kKeys;
    load_tile<kKeys, kD, kThreads>(k + buffer * Tiling::kTile, head_row(p.k, p, b, key, kv, p.D_qk), p.k.stride,
                                   p.T - key, p.D_qk, p.vectors);
    load_tile<kKeys, kD, kThreads>(v + buffer * Tiling::kTile, head_row(p.v, p, b, key, kv, p.D_v), p.v.stride,
                                   p.T - key, p.D_v, p.vectors);
  }

  // The queries and their output gradients, which the caller may read; and the first tile, which is on its way.
  __device__ __forceinline__ void load_first() const {
    load_tile<kRows, kD, kThreads>(q, head_row(p.q, p, b, first, h, p.D_qk), p.q.stride, p.T - first, p.D_qk,
                                   p.vectors);
    load_tile<kRows, kD, kThreads>(d_out, head_row(p.d_out, p, b, first, h, p.D_v), p.d_out.stride, p.T - first, p.D_v,
                                   p.vectors);
    copy_async_commit();
    load_keys(0, 0);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
  }

  __device__ __forceinline__ S* warp_q() const { return q + warp_row * kStride; }
  __device__ __forceinline__ const S* warp_d_out() const { return d_out + warp_row * kStride; }

  // use(q . k, dO . v, the first key, the keys) of the tiles that the warp's rows see.
  template <class Use>
  __device__ __forceinline__ void for_tiles(const Gradients& rows, Scores& s, Scores& dp, Use use) const {
    const Left left_q(warp_q(), kStride), left_d_out(warp_d_out(), kStride);
    walk_tiles(
        tiles, [&](int tile, int buffer) { load_keys(tile, buffer); },
        [&](int tile, int buffer) {
          if (!rows.sees(first_key + tile * kKeys)) return;
          multiply_columns(s, left_q, k + buffer * Tiling::kTile, kStride);
          multiply_columns(dp, left_d_out, v + buffer * Tiling::kTile, kStride);
          if (p.dropout_keys)
            drop(dp, dropped_of_queries<kStrips, kKeys / 8>(HeadDropout(p, b, h), row, first_key + tile * kKeys),
                 p.dropout_scale);
          use(first_key + tile * kKeys, k + buffer * Tiling::kTile);
        });
  }

  __device__ __forceinline__ void find_delta(Gradients& rows, Scores& s, Scores& dp) const {
    if constexpr (Score::kOwnDelta) {
      for_tiles(rows, s, dp, [&](int key, const S*) { rows.add_delta_terms(s, dp, key); });
      rows.finish_delta();
      __syncthreads();
      load_keys(0, 0);
      copy_async_commit();
    } else if constexpr (Score::kNeedsDelta) {
      rows.delta_of_output(head_row(p.out, p, b, row, h, p.D_v), p.out.stride, warp_d_out());
    }
  }

  // The rows' shares of what no key of a tile has: a bias slot's weights and score gradients (`ds`), and what is
  // learned.
  __device__ __forceinline__ void share(const Gradients& rows, float (&ds)[2 * kStrips],
                                        RowShares<kRows>& shares) const {
    const LearnedOfHead<float> learned = learned_of(p, h);
#pragma unroll
    for (int r = 0; r < 2 * kStrips; ++r) {
      const float2 bias = p.key_bias ? rows.bias_gradient(r) : make_float2(0, 0);
      ds[r] = bias.y;
      const int at = warp_row + 8 * r + lane_index() / 4;
      if (lane_index() % 4 == 0) {
        shares.bias_weight[at] = bias.x * slot_factor(p, b, h, first + at), shares.bias_ds[at] = bias.y;
        const LearnedOfHead<float> d = rows.learned_gradient(r, learned);
        for (int i = 0; i < kMostLearned; ++i) shares.learned[i][at] = d.at[i];
      }
    }
    __syncthreads();
  }

  __device__ __forceinline__ void add_shares(float (&d_q)[kStrips][kD / 8][4], const float (&ds)[2 * kStrips],
                                             const RowShares<kRows>& shares) const {
    if (p.key_bias) {
      add_outer(d_q, ds, p.key_bias + int64_t(kv) * p.D_qk, p.D_qk);
      const int64_t place = (int64_t(b) * p.group() + h % p.group()) * blocks + block;
      float* const keys = p.bias_shares + place * p.KV * (p.D_qk + p.D_v);
      float* const values = keys + int64_t(p.KV) * p.D_qk;
      sum_weighted<kRows, kD, kThreads>(keys + int64_t(kv) * p.D_qk, shares.bias_ds, q, p.D_qk);
      if (p.value_bias)
        sum_weighted<kRows, kD, kThreads>(values + int64_t(kv) * p.D_v, shares.bias_weight, d_out, p.D_v);
    }
    if (const int i = int(threadIdx.x); i < kMostLearned && p.learned[i]) {
      float sum = 0;
      for (int at = 0; at < kRows; ++at) sum += shares.learned[i][at];
      p.learned_shares[((int64_t(i) * p.B + b) * blocks + block) * p.H + h] = sum;
    }
    __syncthreads();  // all have read q, whose place d_q takes
  }
};

template <class S, class Score, int kD>
__global__ void __launch_bounds__(BackwardTiling<S, kD>::kThreads) queries_kernel(const BackwardProblem<S> p) {
  using Block = QueriesBlock<S, Score, kD>;
  constexpr int kStrips = Block::kStrips;
  __shared__ RowShares<Block::kRows> shares;
  const Block block(p, reinterpret_cast<S*>(dynamic_shared()));
  block.load_first();
  typename Block::Gradients rows(p, block.b, block.row, p.m + int64_t(block.bh) * p.T,
                                 p.inverse + int64_t(block.bh) * p.T);
  if (p.key_bias) rows.read_bias(block.warp_q(), block.warp_d_out(), block.kv, block.h);

  typename Block::Scores s, dp;  // of a tile
  block.find_delta(rows, s, dp);
  rows.publish(p.rows + int64_t(block.bh) * p.padded_T);

  float d_q[kStrips][kD / 8][4];
  set_zero(d_q);
  block.for_tiles(rows, s, dp, [&](int key, const S* keys) {
    rows.differentiate(s, dp, key);
    add_product(d_q, dp, keys, Block::kStride);
  });
  if (p.key_bias || p.learned[0]) {
    float ds[2 * kStrips];
    block.share(rows, ds, shares);
    block.add_shares(d_q, ds, shares);
  }
  scale_all(d_q, p.scale);
  store_rows<kD>(head_row(p.d_q, p, block.b, block.row, block.h, p.D_qk), p.d_q.stride, p.T - block.row, d_q,
                 block.warp_q(), p.D_qk, p.vectors);
}

}  // namespace

template <class S>
void backward_queries(const BackwardProblem<S>& p, cudaStream_t stream) {
  with_formula_and_class(p, [&](auto formula, auto head_class) {
    using Tiling = BackwardTiling<S, head_class()>;
    const int blocks = (p.T + Tiling::kRows - 1) / Tiling::kRows;
    launch(queries_kernel<S, decltype(formula), head_class()>, dim3(unsigned(blocks * p.B * p.H)),
           dim3(Tiling::kThreads), Tiling::kTiles, stream, p);
  });
}

template void backward_queries(const BackwardProblem<Bf16>&, cudaStream_t);
template void backward_queries(const BackwardProblem<float>&, cudaStream_t);

}  // namespace sluice::cuda
