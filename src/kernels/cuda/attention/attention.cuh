// What the CUDA attention kernels share: score functions, tiles in shared memory, the walk over them, and rows in
// registers.
//
// Forward, backward and probe cut attention into tiles of queries x keys, as the CPU's kernels do (kernels/cpu/isa/
// attention_forward.cc; online softmax, arXiv 1805.02867; tiling and the backward pass as in arXiv 2205.14135 and
// 2307.08691). A block of four warps owns some rows, queries or keys, and walks over the other side in tiles that
// copy_async_16 brings in while the tile before is worked on. A warp owns kStrips strips of 16 rows, in accumulator
// layout: of lane l, with g = l / 4 and t = l % 4, "row r" (0 <= r < 2 kStrips) is row 8 r + g of the warp, shared by
// the four lanes of a quad, and its columns are 2t, 2t + 1 of every 8. Weights and score gradients go from the
// accumulators of one product straight into the left fragments of the next. All statistics are f32; there are no
// atomics.
//
// Rows that have a first key (documents packed into a sequence, windows) leave out the tiles that none of a block's
// rows, or of a warp's, sees; where rows start inside a tile it is masked like one on the diagonal. Rows that have an
// order of their own (AttentionForward::order) are masked in all tiles of their windows, by places that come from the
// L1 cache.
//
// A key bias is no tile: its score is one f32 dot product per query, at full precision, and comes first.
// Head sizes are padded with zeros to 16, 32, 64, 128 or 256 in shared memory; global memory is never padded. Where
// values are wider or narrower than keys, tiles of both have the wider one's size: results are right at every pair of
// sizes, and what the narrower side's products multiply by zeros is the price of no second class (a third more at
// D_v = 2 D_qk in the forward pass).
//
// Cost of 64 queries x 64 keys at D = 64 in bf16, in m16n8k16 instructions of 2,048 multiply-adds: a product is 128,
// the forward pass 256 and 4,096 exponentials; the backward pass needs 640 and runs 896, as both its kernels recompute
// S and dP, the price of no atomics. At 1,024 multiply-adds a clock and multiprocessor (sm_80) that is a floor of 512
// and 1,792 clocks. f32 runs six times as many instructions. What nvcc 13 makes of it for sm_90 at D = 64, bf16,
// softmax; a thread of any kernel spills at most 72 bytes:
//   forward           128 queries, 64 keys    255 registers   55,296 bytes of shared memory
//   queries' kernel    64 queries, 64 keys    168 registers   55,296 + 1,024
//   keys' kernel       64 keys, 64 queries    182 registers   57,344
//
// None of this has been timed. Next steps, in the order of what they should bring on sm_90: WGMMA with TMA loads and a
// producer warp (mma.sync reaches some 60% of the tensor cores' rate there); exp2 with the scale folded in, in place of
// expf; leaving out the halves of diagonal tiles that are masked; two strips a warp in the backward kernels; D = 96 as
// a class of its own.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/attention/attention_fragments.cuh"
#include "kernels/cuda/attention/attention_problem.cuh"
#include "kernels/cuda/reduce.cuh"

namespace sluice::cuda {

// ---- the score function --------------------------------------------------------------------------------------------

// A score function as the kernels need it: functions that differ from SoftmaxFamily in the row's start alone share one
// instantiation, since the start is picked at run time.
template <class Score>
using RowFormula = std::conditional_t<Score::kOnlyStart, SoftmaxFamily, Score>;

// body(score) for the function that the formula stands for.
template <class Formula, class Body, class... Scores>
__device__ __forceinline__ void with_score(ScoreList<Scores...>, ScoreKind kind, Body body) {
  if constexpr (std::is_same_v<Formula, SoftmaxFamily>) {
    const auto try_one = [&](auto score) {
      if constexpr (score.kOnlyStart)
        if (kind_of<decltype(score)> == kind) body(score);
    };
    (try_one(Scores{}), ...);
  } else {
    body(Formula{});
  }
}

template <class Score>
SLUICE_FORMULA typename Score::template Constants<float> constants_of(const AttentionProblem& p) {
  return unpack_constants<typename Score::template Constants<float>>(p.constants);
}

__device__ __forceinline__ LearnedOfHead<float> learned_of(const AttentionProblem& p, int h) {
  LearnedOfHead<float> out;
#pragma unroll
  for (int i = 0; i < kMostLearned; ++i) out.at[i] = p.learned[i] ? p.learned[i][h] : 0.0f;
  return out;
}

template <class Formula>
__device__ __forceinline__ RowStart<float> row_start(const AttentionProblem& p, float row,
                                                     const LearnedOfHead<float>& learned) {
  RowStart<float> start{0, 0};
  with_score<Formula>(ScoreFunctions{}, p.score, [&](auto score) {
    start = score.template start<float>(row, learned, constants_of<decltype(score)>(p));
  });
  return start;
}

// Zeros where the function learns nothing.
template <class Formula>
__device__ __forceinline__ LearnedOfHead<float> d_learned(const AttentionProblem& p, float row, float m, float inverse,
                                                          float sum, const LearnedOfHead<float>& learned) {
  LearnedOfHead<float> out{};
  with_score<Formula>(ScoreFunctions{}, p.score, [&](auto score) {
    if constexpr (kLearnedCount < decltype(score) >> 0)
      out = score.d_learned(row, m, inverse, sum, learned, constants_of<decltype(score)>(p));
  });
  return out;
}

// body(class) for the size that heads of size D are padded to; inside, `class()` is a constant.
template <class Body>
void with_class(int D, Body body) {
  if (D <= 16) body(std::integral_constant<int, 16>{});
  else if (D <= 32) body(std::integral_constant<int, 32>{});
  else if (D <= 64) body(std::integral_constant<int, 64>{});
  else if (D <= 128) body(std::integral_constant<int, 128>{});
  else body(std::integral_constant<int, 256>{});
}

// body(formula, class) for the kernels of this problem.
template <class Body>
void with_formula_and_class(const AttentionProblem& p, Body body) {
  ScoreFunctions::dispatch(p.score, [&](auto score) {
    with_class(std::max(p.D_qk, p.D_v), [&](auto head_class) { body(RowFormula<decltype(score)>{}, head_class); });
  });
}

// ---- tiles in shared memory ----------------------------------------------------------------------------------------

// Elements between rows of a tile: 16 bytes (bf16) or 32 (f32) more than a row, so that the rows that a warp reads at a
// time lie in different banks.
template <int kD>
inline constexpr int kTileStride = kD + 8;

__device__ __forceinline__ int warp_index() { return int(threadIdx.x) / kWarp; }

// Rows [0, kRows) x [0, kD) of one head into shared memory; rows from `rows` and features from D on become zeros. On
// its way until copies are waited for.
template <int kRows, int kD, int kThreads, class S>
__device__ __forceinline__ void load_tile(S* tile, const S* from, int64_t stride, int rows, int D, bool vectors) {
  if (vectors) {
    constexpr int kVector = 16 / sizeof(S), kVectors = kD / kVector;
    static_assert(kRows * kVectors % kThreads == 0);
#pragma unroll 8
    for (int copy = 0; copy < kRows * kVectors / kThreads; ++copy) {
      const int i = int(threadIdx.x) + copy * kThreads;
      const int row = i / kVectors, d = i % kVectors * kVector;
      const bool valid = row < rows && d < D;
      copy_async_16(tile + row * kTileStride<kD> + d, valid ? from + row * stride + d : from, valid);
    }
  } else {
    for (int i = int(threadIdx.x); i < kRows * kD; i += kThreads) {
      const int row = i / kD, d = i % kD;
      tile[row * kTileStride<kD> + d] = row < rows && d < D ? from[row * stride + d] : S{};
    }
  }
}

// body(tile, buffer) for every tile, in turn in one of two buffers; load(tile, buffer) brings one in. The caller has
// loaded tile 0 and committed the copies. No barrier after the last body.
template <class Load, class Body>
__device__ __forceinline__ void walk_tiles(int tiles, Load load, Body body) {
  for (int tile = 0; tile < tiles; ++tile) {
    copy_async_wait<0>();
    __syncthreads();  // the tile is there, and all are done with the other buffer
    if (tile + 1 < tiles) {
      load(tile + 1, (tile + 1) % 2);
      copy_async_commit();
    }
    body(tile, tile % 2);
  }
}

// ---- rows in registers ---------------------------------------------------------------------------------------------

__device__ __forceinline__ float quad_sum(float x) { return warp_sum<4>(x); }
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}

// Dot products of this thread's rows of a tile with `other` [D] f32; the tile's rows are the warp's.
template <int kRowsHeld, int kD, class S>
__device__ __forceinline__ void dot_rows(float (&dots)[kRowsHeld], const S* rows, const float* other, int D) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  float sums[kRowsHeld] = {};
  for (int d = t; d < D; d += 4) {
    const float x = other[d];
#pragma unroll
    for (int r = 0; r < kRowsHeld; ++r) sums[r] += load_one(rows + (8 * r + g) * kTileStride<kD> + d) * x;
  }
#pragma unroll
  for (int r = 0; r < kRowsHeld; ++r) dots[r] = quad_sum(sums[r]);
}

// One of this thread's accumulators c[strip][tile][e]; r is its row among the thread's, `column` its column in the
// tile, and `above` that column less its row in the warp: on the diagonal, keys above 0 lie beyond the query.
struct Place {
  int strip, tile, e, r, column, above;
};

template <int kStrips, int kTiles, class Body>
__device__ __forceinline__ void for_elements(Body body) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  const int first = 2 * t, first_above = first - g;
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int column = 8 * tile + e % 2, row = 16 * strip + 8 * (e / 2);
        body(Place{strip, tile, e, 2 * strip + e / 2, first + column, first_above + (column - row)});
      }
}

// acc[r][column] += weight[r] * row[column], of a row of D f32 columns.
template <int kStrips, int kWide>
__device__ __forceinline__ void add_outer(float (&acc)[kStrips][kWide][4], const float (&weight)[2 * kStrips],
                                          const float* row, int D) {
  const int t = lane_index() % 4;
#pragma unroll
  for (int tile = 0; tile < kWide; ++tile)
#pragma unroll
    for (int column = 0; column < 2; ++column) {
      const int d = 8 * tile + 2 * t + column;
      const float x = d < D ? row[d] : 0.0f;
#pragma unroll
      for (int r = 0; r < 2 * kStrips; ++r) acc[r / 2][tile][r % 2 * 2 + column] += weight[r] * x;
    }
}

template <int kStrips, int kWide>
__device__ __forceinline__ void scale_rows(float (&acc)[kStrips][kWide][4], const float (&factors)[2 * kStrips]) {
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
    for (int tile = 0; tile < kWide; ++tile)
#pragma unroll
      for (int e = 0; e < 4; ++e) acc[strip][tile][e] *= factors[2 * strip + e / 2];
}

template <int kStrips, int kWide>
__device__ __forceinline__ void scale_all(float (&acc)[kStrips][kWide][4], float factor) {
  float factors[2 * kStrips];
#pragma unroll
  for (int r = 0; r < 2 * kStrips; ++r) factors[r] = factor;
  scale_rows(acc, factors);
}

__device__ __forceinline__ void store_pair(float* to, float a, float b) {
  *reinterpret_cast<float2*>(to) = make_float2(a, b);
}
__device__ __forceinline__ void store_pair(Bf16* to, float a, float b) {
  *reinterpret_cast<uint32_t*>(to) = pack_bf16(a, b);
}

// The warp's accumulators into `rows` rows of global memory, by way of the warp's own rows of a tile that it needs no
// more.
template <int kD, int kStrips, class S>
__device__ __forceinline__ void store_rows(S* to, int64_t stride, int rows, const float (&acc)[kStrips][kD / 8][4],
                                           S* tile, int D, bool vectors) {
  const int g = lane_index() / 4, t = lane_index() % 4;
  __syncwarp();
#pragma unroll
  for (int r = 0; r < 2 * kStrips; ++r)
#pragma unroll
    for (int n = 0; n < kD / 8; ++n) {
      const float* pair = acc[r / 2][n] + r % 2 * 2;
      store_pair(tile + (8 * r + g) * kTileStride<kD> + 8 * n + 2 * t, pair[0], pair[1]);
    }
  __syncwarp();
  if (vectors) {
    constexpr int kVector = 16 / sizeof(S), kVectors = kD / kVector;
#pragma unroll 4
    for (int i = lane_index(); i < 16 * kStrips * kVectors; i += kWarp) {
      const int row = i / kVectors, d = i % kVectors * kVector;
      const uint4 vector = *reinterpret_cast<const uint4*>(tile + row * kTileStride<kD> + d);
      if (row < rows && d < D) *reinterpret_cast<uint4*>(to + row * stride + d) = vector;
    }
  } else {
    for (int i = lane_index(); i < 16 * kStrips * kD; i += kWarp) {
      const int row = i / kD, d = i % kD;
      if (row < rows && d < D) to[row * stride + d] = tile[row * kTileStride<kD> + d];
    }
  }
}

}  // namespace sluice::cuda
