// Byte-pair encoding (arXiv 1508.07909) of one word by a list of merges, in O(n log n).
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace sluice {

class BytePairMerges {
 public:
  // Merges of lower `rank` come first. False if this pair is there already.
  bool add(int32_t left, int32_t right, int32_t merged, int32_t rank);
  void reserve(size_t merges) { merges_.reserve(merges); }
  size_t size() const { return merges_.size(); }

  // Starts with `symbols`; the adjacent pair whose merge comes first, the leftmost of several, becomes one token, until
  // no pair has a merge. Appends what is left.
  void encode(std::span<const int32_t> symbols, std::vector<int32_t>& tokens) const;

 private:
  struct Merge {
    int32_t rank, merged;
  };
  const Merge* find(int32_t left, int32_t right) const;

  std::unordered_map<uint64_t, Merge> merges_;  // by left and right
};

}  // namespace sluice
