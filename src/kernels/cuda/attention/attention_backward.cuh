// What the two kernels of the attention backward pass share: the problem, the tiling and the workspace.
//
// With p_ij and ds_ij = dL/ds_ij recomputed tile by tile from the forward's row statistics, and dp_ij = dO_i . v_j:
//
//   dV_j = sum_i p_ij dO_i     dK_j = scale * sum_i ds_ij q_i     dQ_i = scale * sum_j ds_ij k_j
//
// (1) The queries' kernel: delta and dQ; a block owns queries of one head. It leaves (m, 1/l, delta) of every row for
// (2), with the first key the row sees, and its share of the gradients of key bias, value bias and what the score
// function learns. (2) The keys' kernel: dK and dV; a block owns keys of one key/value head and walks over the later
// queries of all heads that share it, up to the last that sees a key of the block. (3) The shares are added up in
// order. Both kernels have the same form: rows and their partners stay in shared memory as left factors (Q, dO or K,
// V), the other side passes by in tiles (K, V or Q, dO).
#pragma once

#include "kernels/cuda/attention/attention.cuh"

namespace sluice::cuda {

template <class S>
struct BackwardProblem : AttentionProblem {
  Rows<const S> q, k, v, out, d_out;
  Rows<S> d_q, d_k, d_v;
  const float *m, *inverse;  // [B, H, T]: the two parts of the forward's statistics
  float4* rows;              // [B, H, padded_T]: m, 1/l, delta, the first key it sees; zeros but the last from T on
  float* bias_shares;        // [B, group, blocks, KV D_qk + KV D_v]: of d_key_bias (before the scale), d_value_bias
  float* learned_shares;     // [kMostLearned, B, blocks, H]: of d_learned
  int padded_T;
};

// kRows rows stay in a block, kColumns pass by at a time. What decides is shared memory: 2 tiles of kRows and 4 of
// kColumns in the 163 KB that a block may have on sm_80; and that dK and dV are accumulators of kD columns each.
template <class S, int kD>
struct BackwardTiling {
  static constexpr int kBytes = kD * int(sizeof(S));
  static constexpr int kStrips = 1;
  static constexpr int kWarps = kBytes <= 512 ? 4 : 2;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kRows = kWarps * 16 * kStrips;
  static constexpr int kColumns = kBytes <= 128 ? 64 : kBytes <= 512 ? 32 : 16;
  static constexpr int kTile = kColumns * kTileStride<kD>;                                 // elements of a passing tile
  static constexpr size_t kTiles = (2 * kRows * kTileStride<kD> + 4 * kTile) * sizeof(S);  // bytes
};

inline constexpr int kMaxBackwardRows = 64;
inline int64_t padded_rows(int64_t T) { return (T + kMaxBackwardRows - 1) / kMaxBackwardRows * kMaxBackwardRows; }

template <class S>
void backward_queries(const BackwardProblem<S>& p, cudaStream_t stream);
template <class S>
void backward_keys(const BackwardProblem<S>& p, cudaStream_t stream);

}  // namespace sluice::cuda
