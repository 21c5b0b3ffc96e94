// Core attention disaggregation's plan (DistCA, arXiv 2510.18121), a greedy one: ranks that have less than the mean of
// score pairs are given rows of those that have more, cheapest bytes a pair first.
//
// What lies on a rank are items: equal stretches of a piece's head and of its tail, so that any n rows of the one with
// their mirror images in the other take n times the same pairs. What moves are the outer rows of both stretches; an
// item with shorter ones stays behind.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "placement/plan.h"

namespace sluice {
namespace {

struct Item {
  Rows head, tail;  // where they touch, the item is all rows from the one's begin to the other's end

  int64_t pairs() const { return head.pairs() + tail.pairs(); }
  // Of the head's row n and the tail's, from its end, n: for every n the same.
  int64_t unit() const { return int64_t{head.begin} + 1 + tail.end; }
  int64_t mirrored() const { return std::min(head.count(), tail.count()); }
  int64_t rows() const { return head.count() + tail.count(); }

  // Takes away `rows` from each end.
  Item take_outer(int32_t rows) {
    const Item outer = {{head.piece, head.begin, head.begin + rows}, {tail.piece, tail.end - rows, tail.end}};
    head.begin += rows;
    tail.end -= rows;
    return outer;
  }

  void append_to(std::vector<Rows>& out) const {
    if (head.end == tail.begin) return out.push_back({head.piece, head.begin, tail.end});
    if (head.count() > 0) out.push_back(head);
    if (tail.count() > 0) out.push_back(tail);
  }
};

// Ranks are filled one after the other. Of a piece that does not fit, a rank takes its room from both ends, half each,
// and the next ranks get what is between.
std::vector<std::vector<Item>> items_in_order(const Pieces& pieces, int64_t ranks) {
  const int64_t tokens = std::accumulate(pieces.begin(), pieces.end(), int64_t{0});
  check_eq(tokens % ranks, int64_t{0}, "tokens beyond equal shares of the ranks");
  const int64_t share = tokens / ranks;
  std::vector<std::vector<Item>> items(static_cast<size_t>(ranks));
  int64_t placed = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto piece = int32_t(i);
    for (int32_t begin = 0, end = pieces[i]; begin < end;) {
      std::vector<Item>& rank = items[size_t(placed / share)];
      const auto taken = int32_t(std::min<int64_t>(end - begin, share - placed % share));
      const int32_t from_head = taken / 2, from_tail = taken - from_head;
      rank.push_back({{piece, begin, begin + from_head}, {piece, end - from_tail, end}});
      begin += from_head;
      end -= from_tail;
      placed += taken;
    }
  }
  return items;
}

class Balancing {
 public:
  Balancing(std::vector<std::vector<Item>>& items, const PlanLimits& limits, const ModelWork& work)
      : items_(items), limits_(limits), work_(work) {
    for (const auto& of_rank : items_) {
      int64_t pairs = 0;
      for (const Item& item : of_rank) pairs += item.pairs();
      pairs_.push_back(pairs);
      total_ += pairs;
    }
  }

  // First whoever lacks more than the tolerance is helped, as in the paper. A rank that has too much may remain, where
  // many lack a little each: then that one gives, to ranks that may go beyond the mean as far as the tolerance.
  int64_t run() {
    for (size_t rank : by_pairs()) {
      while (lacks(rank) > tolerated() && move(everyone(), rank, 0)) ++moves_;
    }
    const std::vector<size_t> order = by_pairs();
    for (auto rank = order.rbegin(); rank != order.rend(); ++rank) {
      while (-lacks(*rank) > tolerated() && move({*rank}, by_pairs().front(), tolerated())) ++moves_;
    }
    return moves_;
  }

 private:
  struct Choice {
    size_t rank = 0, item = 0;
    int32_t rows = 0;  // from each end; 0: the whole item
    double bytes_per_pair = INFINITY;
  };

  double mean() const { return double(total_) / double(items_.size()); }
  double tolerated() const { return limits_.tolerance * mean(); }
  double lacks(size_t rank) const { return mean() - double(pairs_[rank]); }

  // The ranks, that with the fewest pairs first.
  std::vector<size_t> by_pairs() const {
    std::vector<size_t> order = everyone();
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return pairs_[a] < pairs_[b]; });
    return order;
  }
  std::vector<size_t> everyone() const {
    std::vector<size_t> ranks(items_.size());
    std::iota(ranks.begin(), ranks.end(), size_t{0});
    return ranks;
  }

  // What of an item may move where `most` pairs may; no bytes_per_pair if nothing.
  Choice choice(size_t rank, size_t index, double most) const {
    const Item& item = items_[rank][index];
    Choice choice{.rank = rank, .item = index};
    int64_t rows = item.rows();
    auto pairs = double(item.pairs());
    if (pairs > most) {
      int64_t of_each = std::min(int64_t(most / double(item.unit())), item.mirrored());
      of_each -= of_each % limits_.block;
      if (of_each == 0) return choice;
      choice.rows = int32_t(of_each);
      rows = 2 * of_each;
      pairs = double(of_each * item.unit());
    }
    choice.bytes_per_pair =
        (double(rows) * (work_.query_bytes + work_.result_bytes) + double(item.tail.end) * work_.key_value_bytes) /
        pairs;
    return choice;
  }

  // `beyond`: the pairs that `to` may have beyond the mean.
  bool move(const std::vector<size_t>& givers, size_t to, double beyond) {
    Choice best;
    for (const size_t rank : givers) {
      const double most = std::min(-lacks(rank), lacks(to) + beyond);
      if (most <= 0) continue;
      for (size_t index = 0; index < items_[rank].size(); ++index) {
        const Choice one = choice(rank, index, most);
        if (one.bytes_per_pair < best.bytes_per_pair) best = one;
      }
    }
    if (std::isinf(best.bytes_per_pair)) return false;
    std::vector<Item>& from = items_[best.rank];
    Item moved = from[best.item];
    if (best.rows > 0) moved = from[best.item].take_outer(best.rows);
    else from.erase(from.begin() + int64_t(best.item));
    items_[to].push_back(moved);
    pairs_[best.rank] -= moved.pairs();
    pairs_[to] += moved.pairs();
    return true;
  }

  std::vector<std::vector<Item>>& items_;
  const PlanLimits& limits_;
  const ModelWork& work_;
  std::vector<int64_t> pairs_;
  int64_t total_ = 0, moves_ = 0;
};

}  // namespace

Plan plan_disaggregated(const Pieces& pieces, const PlanLimits& limits, const ModelWork& work) {
  Plan plan;
  plan.name = "disaggregated";
  plan.title = "disaggregated attention";
  plan.at_home = false;
  plan.disaggregated = true;
  plan.ranks.resize(size_t(limits.ranks));
  std::vector<std::vector<Item>> items = items_in_order(pieces, limits.ranks);
  for (size_t rank = 0; rank < items.size(); ++rank)
    for (const Item& item : items[rank]) item.append_to(plan.ranks[rank].resident);
  plan.moves = Balancing(items, limits, work).run();
  for (size_t rank = 0; rank < items.size(); ++rank)
    for (const Item& item : items[rank]) item.append_to(plan.ranks[rank].attended);
  return plan;
}

}  // namespace sluice
