// Secondary sinks (arXiv 2512.22213): tokens whose residual stream points where the first position's does,
// |cos(h_k, h_0)| > 0.9, k >= 1, for some of the blocks through which that of the first position is large.
//
// Of a layer, in whatever blocks: their share of the tokens k >= 1 at its output, how large their streams are beside
// those of the first position and of the others, and how far what the MLP puts out lies along h_0. Of the model: where
// they are, and their lifetimes, the blocks at whose output a token is such, within the first position's own: from the
// block after which |h_0| has risen most to before the one, among those that follow, after which it has fallen most; to
// the last if it never falls. A token that is one through all of these blocks is a primary-like sink; one through
// fewer, but more than a seventh of the depth, a secondary sink. The paper's limits are more than 4 blocks and fewer
// than the depth less 15, of models with 28 blocks and more.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "measure/figures/totals.h"

namespace sluice {

class SecondarySinks {
 public:
  // Of streams [B * T, C] of sequences of T tokens.
  SecondarySinks(int64_t blocks, int64_t T, int64_t C);
  // What the MLP of a block (from 1) puts out, before the stream behind that block.
  void add_mlp(int64_t block, std::vector<float> output) { mlp_[size_t(block)] = std::move(output); }
  // The embedding's output (0), then each block's; `sums` of the block, null for the embedding's.
  void add(int64_t block, std::span<const float> streams, LikeFirst* sums);
  // All are there.
  void add_lifetimes(ModelTotals& totals) const;

 private:
  struct Own {
    int64_t from, to;  // blocks from .. to - 1 are the first position's own
  };
  struct Life {  // of a token, within them
    int64_t blocks = 0, start = 0;
    bool primary_like = false, secondary = false;
  };
  Own own_blocks(size_t sequence) const;
  Life life(size_t sequence, int64_t t, const Own& own) const;
  bool is_alike(int64_t block, size_t sequence, int64_t t) const {
    return alike_[size_t(block)][sequence * size_t(T_) + size_t(t)] != 0;
  }
  void add_lifetimes(size_t sequence, ModelTotals& totals) const;
  static void add_no_numbers(ModelTotals& totals);

  const int64_t blocks_, T_, C_;
  std::vector<std::vector<double>> first_;   // [blocks + 1][B]: |h_0|
  std::vector<std::vector<uint8_t>> alike_;  // [blocks + 1][B * T]
  std::vector<std::vector<float>> mlp_;      // [blocks + 1][B * T * C], empty but for the block that runs
  std::vector<uint8_t> undefined_;           // [B]: some number was none
};

}  // namespace sluice
