// The attention probe: per query row, the weight of the first key and how far its score stands above the others'
// (kernels/ops/attention.h). The tiles and products are the forward pass's; only scores are summed.
#include "kernels/cuda/attention/attention.cuh"

namespace sluice::cuda {
namespace {

inline constexpr int kThreads = 4 * kWarp;

template <class S>
struct ProbeProblem : AttentionProblem {
  Rows<const S> q, k;
  float *first_score, *gap;  // [B, H, T]
};

template <class S, int kD>
struct ProbeTiling {
  static constexpr int kBytes = kD * int(sizeof(S));
  static constexpr int kQueries = 64;
  static constexpr int kKeys = kBytes <= 512 ? 64 : 32;
  static constexpr int kTile = kKeys * kTileStride<kD>;
  static constexpr size_t kShared = (kQueries * kTileStride<kD> + 2 * kTile) * sizeof(S);
};

// first_score_i = s_if, f where the row's document begins, gap_i = s_if - mean over the other keys that it sees but
// its own (0 where there are none). A row whose window does not reach back to f has neither.
template <class S, int kD>
__global__ void __launch_bounds__(kThreads) scores_kernel(const ProbeProblem<S> p) {
  using Tiling = ProbeTiling<S, kD>;
  constexpr int kStride = kTileStride<kD>, kKeys = Tiling::kKeys;
  S* const q = reinterpret_cast<S*>(dynamic_shared());
  S* const k = q + Tiling::kQueries * kStride;

  const int heads = p.B * p.H, blocks = int(gridDim.x) / heads;
  const int bh = int(blockIdx.x) % heads, b = bh / p.H, h = bh % p.H, kv = h / p.group();
  const int first = (blocks - 1 - int(blockIdx.x) / heads) * Tiling::kQueries;
  const int first_tile = first_key_of(p, b, first) / kKeys;
  const int tiles = (end_key_of(p, b, first + Tiling::kQueries - 1) - 1) / kKeys + 1 - first_tile;
  const auto load_keys = [&](int tile, int buffer) {
    const int key = (first_tile + tile) * kKeys;
    load_tile<kKeys, kD, kThreads>(k + buffer * Tiling::kTile, head_row(p.k, p, b, key, kv, p.D_qk), p.k.stride,
                                   p.T - key, p.D_qk, p.vectors);
  };
  load_tile<Tiling::kQueries, kD, kThreads>(q, head_row(p.q, p, b, first, h, p.D_qk), p.q.stride, p.T - first, p.D_qk,
                                            p.vectors);
  load_keys(0, 0);
  copy_async_commit();

  const int warp_row = warp_index() * 16, row = first + warp_row;
  const LeftRows<S, 1, kD, false> left(q + warp_row * kStride, kStride);
  float sink[2] = {0, 0}, others[2] = {0, 0};
  int start[2];
  for (int r = 0; r < 2; ++r) start[r] = first_key_of(p, b, row + 8 * r + lane_index() / 4);
  walk_tiles(tiles, load_keys, [&](int tile, int buffer) {
    const int first_key = (first_tile + tile) * kKeys;
    if (first_key >= row + 16 && is_causal(p)) return;
    float s[1][kKeys / 8][4];
    multiply_columns(s, left, k + buffer * Tiling::kTile, kStride);
    const int last = row - first_key - 1;  // the query itself is not among the others
    for_elements<1, kKeys / 8>([&](Place at) {
      const float score = s[0][at.tile][at.e] * p.scale;
      int place = first_key + at.column - start[at.r];
      bool before = at.above <= last;
      if (!is_causal(p)) {
        const int own = row + 8 * at.r + lane_index() / 4, key = first_key + at.column;
        place = sees_key(p, b, own, key) ? place_of(p, b, own, key) : -1;
        before = key != own;
      }
      sink[at.r] += place == 0 ? score : 0.0f;
      others[at.r] += place > 0 && before ? score : 0.0f;
    });
  });
  for (int r = 0; r < 2; ++r) {
    const float score = quad_sum(sink[r]), sum = quad_sum(others[r]);
    const int i = row + 8 * r + lane_index() / 4;
    if (lane_index() % 4 == 0 && i < p.T) {
      p.first_score[int64_t(bh) * p.T + i] = score;
      const bool is_first = is_causal(p) ? i == start[r] : place_of(p, b, i, i) == 0;
      const int count = others_of(p, b, i) - (is_first ? 0 : 1);
      p.gap[int64_t(bh) * p.T + i] = count < 1 || !sees_document(p, b, i) ? 0.0f : score - sum / float(count);
    }
  }
}

// Scores into weights, in place.
template <class Score>
__global__ void __launch_bounds__(kThreads)
    weights_kernel(const AttentionProblem p, float* scores, const float* stats, int64_t rows) {
  const int64_t row = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= rows) return;
  const float weight = Score::probability(scores[row], stats[row], stats[rows + row], constants_of<Score>(p));
  scores[row] = sees_document(p, int(row / (int64_t(p.H) * p.T)), int(row % p.T)) ? weight : 0.0f;
}

template <class S>
void probe(const AttentionProbe& op, cudaStream_t stream) {
  const AttentionForward& in = op.forward;
  const bool vectors = allow_vectors<S>(in.spec.shape, in.q, in.k);
  const ProbeProblem<S> p{problem_of(in, in.first_key, vectors), rows_of<const S>(in.q), rows_of<const S>(in.k),
                          floats(op.sink_attention), floats(op.sink_logit_gap)};
  with_class(p.D_qk, [&](auto head_class) {
    using Tiling = ProbeTiling<S, head_class()>;
    const int blocks = (p.T + Tiling::kQueries - 1) / Tiling::kQueries;
    launch(scores_kernel<S, head_class()>, dim3(unsigned(blocks * p.B * p.H)), dim3(kThreads), Tiling::kShared, stream,
           p);
  });
  const int64_t rows = int64_t(p.B) * p.H * p.T;
  ScoreFunctions::dispatch(p.score, [&](auto score) {
    using Formula = RowFormula<decltype(score)>;
    launch(weights_kernel<Formula>, dim3(unsigned((rows + kThreads - 1) / kThreads)), dim3(kThreads), 0, stream,
           static_cast<const AttentionProblem&>(p), floats(op.sink_attention), floats(in.stats), rows);
  });
}

}  // namespace

template <>
void on(const AttentionProbe& op, const Queue& queue) {
  with_element(view_of(op.forward.q).element, [&](auto element) { probe<decltype(element)>(op, queue.stream); });
}

}  // namespace sluice::cuda
