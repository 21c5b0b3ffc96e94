// Rows of tiled attention in a permuted order ("stochastic attention", arXiv 2604.00754), whose windows are tiles side
// by side:
//
//   row i sees keys j <= i with |slot(i) - slot(j)| < window / 2
//
// slot: a random permutation of the context's positions, of a seed and the layer, the same for the whole run and for
// whoever loads the model. A shorter sequence leaves slots empty, so what a row sees does not depend on what follows.
// No parameters. Queries, keys and values are copied into the order and results back from it, N (2 H_q + 2 H_kv) D
// elements each way: little beside products, and attention's tiles are as dense as a window's.
#pragma once

#include "kernels/backend.h"
#include "model/attention/cores/tile_weights.h"
#include "model/config/attention_parts.h"
#include "model/config/heads.h"
#include "model/module/module.h"

namespace sluice {

class PermutedRows {
 public:
  // `reach`: the distance of slots from which on keys are not seen.
  PermutedRows(const LayerPlace& place, int64_t reach, int64_t seed);

  // [7, N] i32, see AttentionForward::order: written by find_order, and there until the backward pass.
  Tensor order(const Pass& pass) const { return pass.view(order_, {kOrderPlanes, pass.N()}); }
  void find_order(const Pass& pass) const;
  // Queries, keys, values and, where they are there, results in that order, in a buffer of its own; or the results'
  // gradient, and places for the others'.
  Heads ordered(const Pass& pass, const Heads& heads, bool results) const;
  Heads ordered_gradients(const Pass& pass, const Tensor& d_out) const;
  // Back from it.
  void put_back(const Pass& pass, const Tensor& to, const Tensor& ordered) const;
  // The same in place, on the host, of a number for each row of every head, [B, H, T] acc.
  void put_numbers_back(const Pass& pass, const Tensor& numbers) const;

  // Keys and values of a decoder, [sequences * rows, columns].
  struct Kept {
    Tensor k, v;
    int64_t rows;
  };
  // Of those of all tokens the ones that the token at pass.first_position sees.
  Kept seen(const Pass& pass, const Kept& all) const;

  SlotWindows slots() const { return {&slots_, reach_}; }

 private:
  Tensor index(const Pass& pass, OrderPlane plane) const { return order(pass).row_range(int64_t(plane), 1); }
  Heads columns(const Tensor& rows) const;
  void gather(const Pass& pass, const Tensor& out, const Tensor& x) const;

  HeadSizes sizes_;
  int64_t reach_;
  Permutation permutation_;
  std::vector<int32_t> places_, slots_;  // by slot; by place
  BufferId order_;
  BufferId rows_, d_rows_;  // [N, projected and result columns]
  StateId seen_, list_;     // [most that a token sees, keys and values]; which these are
};

}  // namespace sluice
