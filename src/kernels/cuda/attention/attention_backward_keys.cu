// Attention backward, the keys' side: dV_j = sum_i p_ij dO_i and dK_j = scale * sum_i ds_ij q_i
// (attention_backward.cuh).
//
// A block owns 64 keys (32 where a row takes 1 KB) of one key/value head, those with the most queries first. K and V
// stay in shared memory; the queries that see the block pass by, of every head that shares the keys, each with its
// (m, 1/l, delta). Scores are kept transposed, [keys, queries], so that weights and score gradients are left factors as
// they are. At D = 256 the registers hold one of dK and dV: two blocks share the work, one for each.
#include "kernels/cuda/attention/attention_backward.cuh"
#include "kernels/cuda/attention/attention_dropout.cuh"

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
                                              const float4* rows, int b, int key, int query,
                                              const AttentionProblem& p) {
  const auto constants = constants_of<Score>(p);
  const int behind = key - query, queries = p.T - query, own_key = key + lane_index() / 4;
  for_elements<kStrips, kTiles>([&](Place at) {
    const float4 row = rows[at.column];
    float &x = s[at.strip][at.tile][at.e], &y = dp[at.strip][at.tile][at.e];
    const float score = x * p.scale;
    const float weight = Score::probability(score, row.x, row.y, constants);
    const float ds = Score::d_score(score, row.x, row.y, weight, y, row.z, constants);
    const bool seen = !is_causal(p) ? own_key + 8 * at.r < p.T && at.column < queries &&
                                          sees_key(p, b, query + at.column, own_key + 8 * at.r)
                                    : at.above >= behind && at.column < queries && float(own_key + 8 * at.r) >= row.w;
    x = seen ? weight : 0.0f;
    y = seen ? ds : 0.0f;
  });
}

// The same with dropout, where there is some, of head h: weights as values were added up, gradients of those.
template <class Score, int kStrips, int kTiles>
__device__ __forceinline__ void differentiate_dropped(float (&s)[kStrips][kTiles][4], float (&dp)[kStrips][kTiles][4],
                                                      const float4* rows, int b, int h, int key, int query,
                                                      const AttentionProblem& p) {
  DroppedBits<kStrips> dropped{};
  if (p.dropout_keys) {
    dropped = dropped_of_keys<kStrips, kTiles>(HeadDropout(p, b, h), key, query);
    drop(dp, dropped, p.dropout_scale);
  }
  differentiate<Score>(s, dp, rows, b, key, query, p);
  if (p.dropout_keys) drop(s, dropped, p.dropout_scale);
}

// x = y where `taken`.
template <int kStrips, int kTiles>
__device__ __forceinline__ void take_if(bool taken, float (&x)[kStrips][kTiles][4],
                                        const float (&y)[kStrips][kTiles][4]) {
  for_elements<kStrips, kTiles>([&](Place at) {
    float& element = x[at.strip][at.tile][at.e];
    element = taken ? y[at.strip][at.tile][at.e] : element;
  });
}

// How many tiles of kQueries queries, from `first` on, see some of the keys up to `last`: the first so many, as first
// keys never decrease. All lanes of a warp call.
template <int kQueries>
__device__ __forceinline__ int tiles_that_see(int first, int last, int b, const AttentionProblem& p) {
  const int tiles = (p.T - first + kQueries - 1) / kQueries;
  if (!p.first_key && p.window == 0 && !p.order) return tiles;
  int count = 0;
  for (int tile = lane_index(); tile < tiles; tile += kWarp)
    count += first_key_of(p, b, first + tile * kQueries) <= last;
  return warp_sum(count);
}

// Which keys a block owns, and the tiles of kQueries queries that see some of them, head by head.
template <int kRows, int kQueries>
struct KeysPlace {
  int b, kv, first, begin, tiles_per_head, tiles;  // `begin`: of the queries
  __device__ __forceinline__ explicit KeysPlace(const AttentionProblem& p) {
    const int heads = p.B * p.KV, b_kv = int(blockIdx.x) % heads;
    b = b_kv / p.KV, kv = b_kv % p.KV;
    first = int(blockIdx.x) / heads * kRows;
    // Where rows are not causal, one sees those that see it.
    begin = is_causal(p) ? first : first_key_of(p, b, first) / kQueries * kQueries;
    tiles_per_head = tiles_that_see<kQueries>(begin, first + kRows - 1, b, p);
    tiles = tiles_per_head * p.group();
  }
  __device__ __forceinline__ int head(int tile, const AttentionProblem& p) const {
    return kv * p.group() + tile / tiles_per_head;
  }
  __device__ __forceinline__ int first_query(int tile) const { return begin + tile % tiles_per_head * kQueries; }
};

// dK, or dV: a block has registers for one. What for_tiles and store do is said where they are made, in the kernel.
template <class S, int kD, class ForTiles, class Store>
__device__ __forceinline__ void sum_one(bool for_keys, const BackwardProblem<S>& p, ForTiles for_tiles, Store store,
                                        S* warp_k) {
  using Tiling = KeysTiling<S, kD>;
  float sum[Tiling::kStrips][kD / 8][4];
  set_zero(sum);
  for_tiles(for_keys, [&](auto& s, auto& dp, const S* tile_q, const S* tile_d_out) {
    take_if<Tiling::kStrips, Tiling::kColumns / 8>(for_keys, s, dp);
    add_product(sum, s, for_keys ? tile_q : tile_d_out, kTileStride<kD>);
  });
  scale_all(sum, for_keys ? p.scale : 1.0f);
  store(for_keys ? p.d_k : p.d_v, for_keys ? p.D_qk : p.D_v, sum, warp_k);
}

template <class S, int kD, class ForTiles, class Store>
__device__ __forceinline__ void sum_both(const BackwardProblem<S>& p, ForTiles for_tiles, Store store, S* warp_k,
                                         S* warp_v) {
  constexpr int kStrips = KeysTiling<S, kD>::kStrips;
  float d_k[kStrips][kD / 8][4], d_v[kStrips][kD / 8][4];
  set_zero(d_k);
  set_zero(d_v);
  for_tiles(true, [&](auto& s, auto& dp, const S* tile_q, const S* tile_d_out) {
    add_product(d_v, s, tile_d_out, kTileStride<kD>);
    add_product(d_k, dp, tile_q, kTileStride<kD>);
  });
  scale_all(d_k, p.scale);
  store(p.d_k, p.D_qk, d_k, warp_k);
  store(p.d_v, p.D_v, d_v, warp_v);
}

template <class S, class Score, int kD>
__global__ void __launch_bounds__(BackwardTiling<S, kD>::kThreads) keys_kernel(const BackwardProblem<S> p) {
  using Tiling = KeysTiling<S, kD>;
  constexpr int kStrips = Tiling::kStrips, kRows = Tiling::kRows, kQueries = Tiling::kColumns;
  constexpr int kStride = kTileStride<kD>, kThreads = Tiling::kThreads;
  S* const k = reinterpret_cast<S*>(dynamic_shared());
  S* const v = k + kRows * kStride;
  S* const q = v + kRows * kStride;
  S* const d_out = q + 2 * Tiling::kTile;
  float4* const rows = reinterpret_cast<float4*>(d_out + 2 * Tiling::kTile);  // [2, kQueries]

  const KeysPlace<kRows, kQueries> at(p);
  const auto load_queries = [&](int tile, int buffer) {
    const int h = at.head(tile, p), t = at.first_query(tile);
    load_tile<kQueries, kD, kThreads>(q + buffer * Tiling::kTile, head_row(p.q, p, at.b, t, h, p.D_qk), p.q.stride,
                                      p.T - t, p.D_qk, p.vectors);
    load_tile<kQueries, kD, kThreads>(d_out + buffer * Tiling::kTile, head_row(p.d_out, p, at.b, t, h, p.D_v),
                                      p.d_out.stride, p.T - t, p.D_v, p.vectors);
    const int i = int(threadIdx.x);
    if (i < kQueries)
      copy_async_16(rows + buffer * kQueries + i, p.rows + (int64_t(at.b) * p.H + h) * p.padded_T + t + i, true);
  };
  load_tile<kRows, kD, kThreads>(k, head_row(p.k, p, at.b, at.first, at.kv, p.D_qk), p.k.stride, p.T - at.first, p.D_qk,
                                 p.vectors);
  load_tile<kRows, kD, kThreads>(v, head_row(p.v, p, at.b, at.first, at.kv, p.D_v), p.v.stride, p.T - at.first, p.D_v,
                                 p.vectors);
  load_queries(0, 0);
  copy_async_commit();

  const int warp_row = warp_index() * 16 * kStrips, row = at.first + warp_row;
  S *const warp_k = k + warp_row * kStride, *const warp_v = v + warp_row * kStride;
  const LeftRows<S, kStrips, kD, false> left_k(warp_k, kStride), left_v(warp_v, kStride);
  const auto seen = [&](int tile, int buffer) {
    const bool before = !is_causal(p) || row < at.first_query(tile) + kQueries;
    return row < p.T && before && float(row + 16 * kStrips) > rows[buffer * kQueries].w;
  };
  // use(weights, score gradients, q, dO) of the tiles with a query that sees a key of the warp's. Score gradients are
  // dK's.
  const auto for_tiles = [&](bool for_keys, auto use) {
    walk_tiles(at.tiles, load_queries, [&](int tile, int buffer) {
      if (!seen(tile, buffer)) return;
      const S *const tile_q = q + buffer * Tiling::kTile, *const tile_d_out = d_out + buffer * Tiling::kTile;
      float s[kStrips][kQueries / 8][4], dp[kStrips][kQueries / 8][4];
      multiply_columns(s, left_k, tile_q, kStride);
      if (for_keys) multiply_columns(dp, left_v, tile_d_out, kStride);
      else set_zero(dp);
      differentiate_dropped<Score>(s, dp, rows + buffer * kQueries, at.b, at.head(tile, p), row, at.first_query(tile),
                                   p);
      use(s, dp, tile_q, tile_d_out);
    });
  };
  const auto store = [&](const Rows<S>& to, int D, const auto& sum, S* tile) {
    store_rows<kD>(head_row(to, p, at.b, row, at.kv, D), to.stride, p.T - row, sum, tile, D, p.vectors);
  };
  if constexpr (Tiling::kSplit) sum_one<S, kD>(blockIdx.y == 0, p, for_tiles, store, warp_k);
  else sum_both<S, kD>(p, for_tiles, store, warp_k, warp_v);
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
