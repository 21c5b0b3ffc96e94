// Tokens are a linked list over the places of the first symbols; candidates wait in a heap and
// are dropped when a neighbour has changed meanwhile.
#include "data/tokenizers/byte_pair_merges.h"

#include <algorithm>

namespace sluice {
namespace {

uint64_t key_of(int32_t left, int32_t right) { return uint64_t{uint32_t(left)} << 32 | uint32_t(right); }

struct Node {
  int32_t token;          // -1: merged into the one before
  int32_t before, after;  // places; -1: none
};

struct Candidate {
  int32_t rank, place, left, right, merged;
  bool operator<(const Candidate& other) const {  // for a heap with the first merge on top
    return rank != other.rank ? rank > other.rank : place > other.place;
  }
};

}  // namespace

bool BytePairMerges::add(int32_t left, int32_t right, int32_t merged, int32_t rank) {
  return merges_.try_emplace(key_of(left, right), Merge{rank, merged}).second;
}

const BytePairMerges::Merge* BytePairMerges::find(int32_t left, int32_t right) const {
  const auto found = merges_.find(key_of(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BytePairMerges::encode(std::span<const int32_t> symbols, std::vector<int32_t>& tokens) const {
  std::vector<Node> nodes;
  for (const int32_t symbol : symbols) {
    const int32_t place = int32_t(nodes.size());
    nodes.push_back({symbol, place - 1, place + 1 < int32_t(symbols.size()) ? place + 1 : -1});
  }
  std::vector<Candidate> heap;
  const auto consider = [&](int32_t place) {
    if (place < 0 || nodes[size_t(place)].after < 0) return;
    const int32_t left = nodes[size_t(place)].token, right = nodes[size_t(nodes[size_t(place)].after)].token;
    if (const Merge* merge = find(left, right)) {
      heap.push_back({merge->rank, place, left, right, merge->merged});
      std::push_heap(heap.begin(), heap.end());
    }
  };
  for (int32_t place = 0; place < int32_t(nodes.size()); ++place) consider(place);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate best = heap.back();
    heap.pop_back();
    Node& node = nodes[size_t(best.place)];
    if (node.token != best.left || node.after < 0 || nodes[size_t(node.after)].token != best.right) continue;
    Node& gone = nodes[size_t(node.after)];
    node.token = best.merged;
    node.after = gone.after;
    gone.token = -1;
    if (node.after >= 0) nodes[size_t(node.after)].before = best.place;
    consider(node.before);
    consider(best.place);
  }
  for (const Node& node : nodes) {
    if (node.token >= 0) tokens.push_back(node.token);
  }
}

}  // namespace sluice
