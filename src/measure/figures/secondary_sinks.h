// Secondary sinks (arXiv 2512.22213): tokens whose residual stream points where the first position's does,
// |cos(h_k, h_0)| > 0.9, k >= 1, for some of the blocks through which that of the first position is large.
//
// Of a layer: their share of the tokens k >= 1 at its output, in whatever blocks. Of the model: their lifetimes, the
// blocks at whose output a token is such, as a share of the depth L, within the first position's own: from the block
// after which |h_0| has risen most to before the one, among those that follow, after which it has fallen most; to the
// last if it never falls. A token that is one through all of these blocks is a primary-like sink; one through fewer,
// but more than a seventh of the depth, a secondary sink. The paper's limits are more than 4 blocks and fewer than the
// depth less 15, of models with 28 blocks and more.
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
  // The embedding's output (0), then each block's: the share of tokens that are sinks there goes to `share`.
  void add(int64_t block, std::span<const float> streams, Mean& share);
  // All are there.
  void add_lifetimes(ModelTotals& totals) const;

 private:
  void add_lifetimes(size_t sequence, ModelTotals& totals) const;

  const int64_t blocks_, T_, C_;
  std::vector<std::vector<double>> first_;   // [blocks + 1][B]: |h_0|
  std::vector<std::vector<uint8_t>> alike_;  // [blocks + 1][B * T]
  std::vector<uint8_t> undefined_;           // [B]: some number was none
};

}  // namespace sluice
