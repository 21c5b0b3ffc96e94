// Attention backward, the keys' side: dV_j = sum_i p_ij dO_i and dK_j = scale * sum_i ds_ij q_i
// (attention_backward.cuh).
//
// A block owns 64 keys (32 where a row takes 1 KB) of one key/value head, those with the most queries first. K and V
// stay in shared memory; the queries that see the block pass by, of every head that shares the keys, each with its
// (m, 1/l, delta). Scores are kept transposed, [keys, queries], so that weights and score gradients are left factors as
// they are. At D = 256 the registers hold one of dK and dV: two blocks share the work, one for each.
#include "kernels/cuda/attention/attention_backward.cuh"

namespace sluice::cuda {
namespace {

template <class S, int kD>
struct KeysTiling : BackwardTiling<S, kD> {
  static constexpr bool kSplit = kD > 128;
  static constexpr size_t kShared = KeysTiling::kTiles + 2 * KeysTiling::kColumns * sizeof(float4);
};

// Products k . q of a tile into weights, dO . v into score gradients, both transposed and in place. `rows` are the
// tile's queries, the first of them at position `query`, up to the sequence's end; the warp's first key is at `key`.
template <class Score, int kStrips, int kTiles>
__device__ __forceinline__ void differentiate(float (&s)[kStrips][kTiles][4], float (&dp)[kStrips][kTiles][4],
                                              const float4* rows, int key, int query, const AttentionProblem& p) {
  const auto constants = constants_of<Score>(p);
  const int behind = key - query, queries = p.T - query, own_key = key + lane_index() / 4;
  for_elements<kStrips, kTiles>([&](Place at) {
    const float4 row = rows[at.column];
    float &x = s[at.strip][at.tile][at.e], &y = dp[at.strip][at.tile][at.e];
    const float score = x * p.scale;
    const float weight = Score::probability(score, row.x, row.y, constants);
    const float ds = Score::d_score(score, row.x, row.y, weight, y, row.z, constants);
    const bool seen = at.above >= behind && at.column < queries && float(own_key + 8 * at.r) >= row.w;
    x = seen ? weight : 0.0f;
    y = seen ? ds : 0.0f;
  });
}

// How many tiles of kQueries queries, from `first` on, see some of the keys up to `last`: the first so many, as first
// keys never decrease. All lanes of a warp call.
template <int kQueries>
__device__ __forceinline__ int tiles_that_see(int first, int last, int b, const AttentionProblem& p) {
  const int tiles = (p.T - first + kQueries - 1) / kQueries;
  if (!p.first_key) return tiles;
  int count = 0;
  for (int tile = lane_index(); tile < tiles; tile += kWarp)
    count += first_key_of(p, b, first + tile * kQueries) <= last;
  return warp_sum(count);
}

// A block of keys of one key/value head, and the tiles of queries that see some of them, head by head.
template <class S, class Score, int kD>
struct KeysBlock {
  using Tiling = KeysTiling<S, kD>;
  static constexpr int kStrips = Tiling::kStrips, kRows = Tiling::kRows, kQueries = Tiling::kColumns;
  static constexpr int kStride = kTileStride<kD>, kThreads = Tiling::kThreads;
  using Left = LeftRows<S, kStrips, kD, false>;
  using Scores = float[kStrips][kQueries / 8][4];

  const BackwardProblem<S>& p;
  S *const k, *const v, *const q, *const d_out;
  float4* const rows;  // [2, kQueries]
  const int heads, b_kv, b, kv, first, tiles_per_head, tiles;
  const int warp_row, row;  // the warp's first key, in the block and in the sequence

  __device__ __forceinline__ KeysBlock(const BackwardProblem<S>& problem, S* shared)
      : p(problem),
        k(shared),
        v(k + kRows * kStride),
        q(v + kRows * kStride),
        d_out(q + 2 * Tiling::kTile),
        rows(reinterpret_cast<float4*>(d_out + 2 * Tiling::kTile)),
        heads(p.B * p.KV),
        b_kv(int(blockIdx.x) % heads),
        b(b_kv / p.KV),
        kv(b_kv % p.KV),
        first(int(blockIdx.x) / heads * kRows),
        tiles_per_head(tiles_that_see<kQueries>(first, first + kRows - 1, b, p)),
        tiles(tiles_per_head * p.group()),
        warp_row(warp_index() * 16 * kStrips),
        row(first + warp_row) {}

  __device__ __forceinline__ int first_query(int tile) const { return first + tile % tiles_per_head * kQueries; }

  __device__ __forceinline__ void load_queries(int tile, int buffer) const {
    const int h = kv * p.group() + tile / tiles_per_head, t = first_query(tile);
    load_tile<kQueries, kD, kThreads>(q + buffer * Tiling::kTile, head_row(p.q, p, b, t, h), p.q.stride, p.T - t, p);
    load_tile<kQueries, kD, kThreads>(d_out + buffer * Tiling::kTile, head_row(p.d_out, p, b, t, h), p.d_out.stride,
                                      p.T - t, p);
    const int i = int(threadIdx.x);
    if (i < kQueries)
      copy_async_16(rows + buffer * kQueries + i, p.rows + (int64_t(b) * p.H + h) * p.padded_T + t + i, true);
  }

  // The keys, their values, and the first tile of queries.
  __device__ __forceinline__ void load_first() const {
    load_tile<kRows, kD, kThreads>(k, head_row(p.k, p, b, first, kv), p.k.stride, p.T - first, p);
    load_tile<kRows, kD, kThreads>(v, head_row(p.v, p, b, first, kv), p.v.stride, p.T - first, p);
    load_queries(0, 0);
    copy_async_commit();
  }

  __device__ __forceinline__ S* warp_k() const { return k + warp_row * kStride; }
  __device__ __forceinline__ S* warp_v() const { return v + warp_row * kStride; }

  // Whether a query of the tile sees a key of the warp's.
  __device__ __forceinline__ bool seen(int tile, int buffer) const {
    return row < p.T && row<first_query(tile) + kQueries&& float(row + 16 * kStrips)> rows[buffer * kQueries].w;
  }

  // use(weights, score gradients, q, dO) of the tiles that are seen. Score gradients are for dK alone: without it
  // (`for_keys` false) dO . v is not computed, and the weights stand for what is summed.
  template <class Use>
  __device__ __forceinline__ void for_tiles(bool for_keys, Use use) const {
    const Left left_k(warp_k(), kStride), left_v(warp_v(), kStride);
    walk_tiles(
        tiles, [&](int tile, int buffer) { load_queries(tile, buffer); },
        [&](int tile, int buffer) {
          if (!seen(tile, buffer)) return;
          const S *const tile_q = q + buffer * Tiling::kTile, *const tile_d_out = d_out + buffer * Tiling::kTile;
          Scores s, dp;
          multiply_columns(s, left_k, tile_q, kStride);
          if (for_keys) multiply_columns(dp, left_v, tile_d_out, kStride);
          else set_zero(dp);
          differentiate<Score>(s, dp, rows + buffer * kQueries, row, first_query(tile), p);
          use(s, dp, tile_q, tile_d_out);
        });
  }

  __device__ __forceinline__ void store(const Rows<S>& to, const float (&sum)[kStrips][kD / 8][4], S* tile) const {
    store_rows<kD>(head_row(to, p, b, row, kv), to.stride, p.T - row, sum, tile, p);
  }

  // dK in the blocks of one half of the grid, dV in those of the other.
  __device__ __forceinline__ void one_of_two(bool for_keys) const {
    float sum[kStrips][kD / 8][4];
    set_zero(sum);
    for_tiles(for_keys, [&](Scores& s, Scores& dp, const S* tile_q, const S* tile_d_out) {
      for_elements<kStrips, kQueries / 8>([&](Place at) {
        float& x = s[at.strip][at.tile][at.e];
        x = for_keys ? dp[at.strip][at.tile][at.e] : x;
      });
      add_product(sum, s, for_keys ? tile_q : tile_d_out, kStride);
    });
    scale_all(sum, for_keys ? p.scale : 1.0f);
    store(for_keys ? p.d_k : p.d_v, sum, warp_k());
  }

  __device__ __forceinline__ void both() const {
    float d_k[kStrips][kD / 8][4], d_v[kStrips][kD / 8][4];
    set_zero(d_k);
    set_zero(d_v);
    for_tiles(true, [&](Scores& s, Scores& dp, const S* tile_q, const S* tile_d_out) {
      add_product(d_v, s, tile_d_out, kStride);
      add_product(d_k, dp, tile_q, kStride);
    });
    scale_all(d_k, p.scale);
    store(p.d_k, d_k, warp_k());
    store(p.d_v, d_v, warp_v());
  }
};

template <class S, class Score, int kD>
__global__ void __launch_bounds__(BackwardTiling<S, kD>::kThreads) keys_kernel(const BackwardProblem<S> p) {
  const KeysBlock<S, Score, kD> block(p, reinterpret_cast<S*>(dynamic_shared()));
  block.load_first();
  if constexpr (KeysTiling<S, kD>::kSplit) block.one_of_two(blockIdx.y == 0);
  else block.both();
}

}  // namespace

template <class S>
void backward_keys(const BackwardProblem<S>& p, cudaStream_t stream) {
  with_formula_and_class(p, [&](auto formula, auto head_class) {
    using Tiling = KeysTiling<S, head_class()>;
    const int blocks = (p.T + Tiling::kRows - 1) / Tiling::kRows;
    launch(keys_kernel<S, decltype(formula), head_class()>, dim3(unsigned(blocks * p.B * p.KV), Tiling::kSplit ? 2 : 1),
           dim3(Tiling::kThreads), Tiling::kShared, stream, p);
  });
}

template void backward_keys(const BackwardProblem<Bf16>&, cudaStream_t);
template void backward_keys(const BackwardProblem<float>&, cudaStream_t);

}  // namespace sluice::cuda
