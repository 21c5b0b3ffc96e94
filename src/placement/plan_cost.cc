// Seconds and bytes of a plan's ranks (plan_cost.h).
#include "placement/plan_cost.h"

#include <algorithm>

namespace sluice {
namespace {

struct RankStretch {
  size_t rank;
  Rows rows;
};

// By piece; of a piece, those of one rank follow each other.
using Stretches = std::vector<std::vector<RankStretch>>;

Stretches by_piece(const Plan& plan, size_t pieces, bool attended) {
  Stretches out(pieces);
  for (size_t rank = 0; rank < plan.ranks.size(); ++rank)
    for (const Rows& rows : attended ? plan.attended(rank) : plan.ranks[rank].resident)
      out[size_t(rows.piece)].push_back({rank, rows});
  return out;
}

int64_t overlap(const Rows& rows, int64_t begin, int64_t end) {
  return std::max<int64_t>(0, std::min<int64_t>(rows.end, end) - std::max<int64_t>(rows.begin, begin));
}

// Everything that ranks send each other, in the order of pieces.
class Exchange {
 public:
  Exchange(PlanCost& cost, const ModelWork& work) : cost_(cost), work_(work) {}

  // Each rank that has rows is sent the keys and values of the others'.
  void gather(const std::vector<RankStretch>& stretches) {
    int64_t rows = 0;
    std::vector<std::pair<size_t, int64_t>> owners;  // and their rows
    for (const RankStretch& one : stretches) {
      if (owners.empty() || owners.back().first != one.rank) owners.emplace_back(one.rank, 0);
      owners.back().second += one.rows.count();
      rows += one.rows.count();
    }
    for (const auto& [rank, own] : owners) {
      send(rank, double(own) * double(owners.size() - 1) * work_.key_value_bytes);
      receive_keys(rank, rows - own);
    }
  }

  // A rank that attends from rows is sent all keys before the last of them that it does not have, and the queries of
  // rows that lie elsewhere, whose results go back.
  void fetch(const std::vector<RankStretch>& resident, const std::vector<RankStretch>& attended) {
    for (size_t i = 0; i < attended.size(); ++i) {
      const size_t rank = attended[i].rank;
      for (const RankStretch& home : resident)
        if (home.rank != rank)
          exchange_rows(home.rank, rank, overlap(home.rows, attended[i].rows.begin, attended[i].rows.end));
      // Once a rank, at its last stretch: the keys that all of them need.
      if (i + 1 < attended.size() && attended[i + 1].rank == rank) continue;
      int64_t needed = 0;
      for (size_t j = i + 1; j-- > 0 && attended[j].rank == rank;)
        needed = std::max<int64_t>(needed, attended[j].rows.end);
      for (const RankStretch& home : resident) {
        if (home.rank == rank) continue;
        const int64_t keys = overlap(home.rows, 0, needed);
        send(home.rank, double(keys) * work_.key_value_bytes);
        receive_keys(rank, keys);
      }
    }
  }

 private:
  void exchange_rows(size_t home, size_t away, int64_t rows) {
    send(home, double(rows) * work_.query_bytes);
    receive(away, double(rows) * work_.query_bytes);
    send(away, double(rows) * work_.result_bytes);
    receive(home, double(rows) * work_.result_bytes);
  }
  void send(size_t rank, double bytes) { cost_.ranks[rank].sent += ModelWork::kPasses * bytes; }
  void receive(size_t rank, double bytes) { cost_.ranks[rank].received += ModelWork::kPasses * bytes; }
  void receive_keys(size_t rank, int64_t tokens) {
    cost_.ranks[rank].foreign_keys += tokens;
    receive(rank, double(tokens) * work_.key_value_bytes);
  }

  PlanCost& cost_;
  const ModelWork& work_;
};

template <class Of>
auto most(const std::vector<RankCost>& ranks, const Of& of) {
  auto best = of(ranks.front());
  for (const RankCost& rank : ranks) best = std::max(best, of(rank));
  return best;
}

void add_seconds(PlanCost& cost, const Plan& plan, const Machine& machine) {
  const double exchange = cost.most_bytes() / machine.bandwidth;
  const auto linear = [](const RankCost& rank) { return rank.linear_seconds; };
  const auto attention = [](const RankCost& rank) { return rank.attention_seconds; };
  if (plan.disaggregated)
    cost.step_seconds = std::max(most(cost.ranks, linear) + most(cost.ranks, attention), exchange);
  else cost.step_seconds = most(cost.ranks, [](const RankCost& rank) { return rank.busy(); }) + exchange;
  double busy = 0;
  for (const RankCost& rank : cost.ranks) busy += rank.busy();
  cost.idle_share = 1 - busy / (cost.step_seconds * double(cost.ranks.size()));
}

}  // namespace

double PlanCost::max_over_mean(double (*of)(const RankCost&)) const {
  double sum = 0;
  for (const RankCost& rank : ranks) sum += of(rank);
  return most(ranks, of) * double(ranks.size()) / sum;
}

double PlanCost::pairs_max_over_mean() const {
  return max_over_mean([](const RankCost& rank) { return double(rank.pairs); });
}

double PlanCost::busy_max_over_mean() const {
  return max_over_mean([](const RankCost& rank) { return rank.busy(); });
}

double PlanCost::most_bytes() const {
  return most(ranks, [](const RankCost& rank) { return rank.bytes(); });
}

int64_t PlanCost::most_tokens() const {
  return most(ranks, [](const RankCost& rank) { return rank.tokens; });
}

int64_t PlanCost::most_foreign_keys() const {
  return most(ranks, [](const RankCost& rank) { return rank.foreign_keys; });
}

PlanCost cost_of(const Plan& plan, const Pieces& pieces, const ModelWork& work, const Machine& machine) {
  PlanCost cost;
  cost.name = plan.name;
  cost.title = plan.title;
  cost.moves = plan.moves;
  cost.unplaced = plan.unplaced;
  cost.ranks.resize(plan.ranks.size());
  for (size_t rank = 0; rank < plan.ranks.size(); ++rank) {
    RankCost& one = cost.ranks[rank];
    int64_t computed = 0;
    for (const Rows& rows : plan.ranks[rank].resident) one.tokens += rows.count();
    for (const Rows& rows : plan.attended(rank)) {
      one.pairs += rows.pairs();
      computed += rows.computed_pairs(machine.tile);
    }
    one.linear_seconds = machine.linear_seconds(work, one.tokens);
    one.attention_seconds = machine.attention_seconds(work, computed);
  }
  const Stretches resident = by_piece(plan, pieces.size(), false);
  const Stretches attended = plan.at_home ? Stretches{} : by_piece(plan, pieces.size(), true);
  Exchange exchange(cost, work);
  for (size_t piece = 0; piece < pieces.size(); ++piece) {
    if (plan.gathers) exchange.gather(resident[piece]);
    else exchange.fetch(resident[piece], plan.at_home ? resident[piece] : attended[piece]);
  }
  add_seconds(cost, plan, machine);
  return cost;
}

}  // namespace sluice
