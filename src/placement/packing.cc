// The plans whose rows are attended from where they lie (plan.h).
#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "placement/plan.h"

namespace sluice {
namespace {

Plan empty_plan(const char* name, const char* title, const PlanLimits& limits) {
  Plan plan;
  plan.name = name;
  plan.title = title;
  plan.ranks.resize(size_t(limits.ranks));
  return plan;
}

}  // namespace

Plan plan_fixed(const Pieces& pieces, const PlanLimits& limits) {
  Plan plan = empty_plan("fixed", "fixed packing", limits);
  const int64_t tokens = std::accumulate(pieces.begin(), pieces.end(), int64_t{0});
  check_eq(tokens % limits.ranks, int64_t{0}, "tokens beyond equal shares of the ranks");
  const int64_t share = tokens / limits.ranks;
  int64_t placed = 0;
  for (size_t piece = 0; piece < pieces.size(); ++piece) {
    for (int32_t begin = 0; begin < pieces[piece];) {
      const int64_t room = share - placed % share;
      const auto end = int32_t(std::min<int64_t>(pieces[piece], begin + room));
      plan.ranks[size_t(placed / share)].resident.push_back({int32_t(piece), begin, end});
      placed += end - begin;
      begin = end;
    }
  }
  return plan;
}

// The longest first, each to the rank with the least work that has room for it; of equal ranks the first.
Plan plan_variable(const Pieces& pieces, const PlanLimits& limits, const ModelWork& work, const Machine& machine) {
  Plan plan = empty_plan("variable", "variable-length packing", limits);
  std::vector<size_t> order(pieces.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return pieces[a] > pieces[b]; });
  std::vector<double> seconds(plan.ranks.size(), 0);
  std::vector<int64_t> tokens(plan.ranks.size(), 0);
  for (const size_t piece : order) {
    const int64_t length = pieces[piece];
    size_t best = plan.ranks.size();
    for (size_t rank = 0; rank < plan.ranks.size(); ++rank) {
      const bool fits = limits.most_tokens == 0 || tokens[rank] + length <= limits.most_tokens;
      if (fits && (best == plan.ranks.size() || seconds[rank] < seconds[best])) best = rank;
    }
    if (best == plan.ranks.size()) {
      best = size_t(std::min_element(tokens.begin(), tokens.end()) - tokens.begin());
      ++plan.unplaced;
    }
    const Rows rows = {int32_t(piece), 0, int32_t(length)};
    plan.ranks[best].resident.push_back(rows);
    tokens[best] += length;
    seconds[best] +=
        machine.linear_seconds(work, length) + machine.attention_seconds(work, rows.computed_pairs(machine.tile));
  }
  return plan;
}

// Each piece in 2 R parts; rank r has part r and, from the end, part r. Of pieces that do not divide, some parts have a
// row more, always the same ones: so the ranks take turns.
Plan plan_per_document(const Pieces& pieces, const PlanLimits& limits) {
  Plan plan = empty_plan("per_document", "per-document context parallel", limits);
  plan.gathers = true;
  const int64_t parts = 2 * limits.ranks;
  for (size_t piece = 0; piece < pieces.size(); ++piece) {
    const auto cut = [&](int64_t part) { return int32_t(pieces[piece] * part / parts); };
    for (int64_t part = 0; part < parts; ++part) {
      const Rows rows = {int32_t(piece), cut(part), cut(part + 1)};
      if (rows.count() == 0) continue;
      const int64_t owner = std::min(part, parts - 1 - part);
      plan.ranks[(size_t(owner) + piece) % plan.ranks.size()].resident.push_back(rows);
    }
  }
  return plan;
}

std::vector<Plan> make_plans(const Pieces& pieces, const PlanLimits& limits, const ModelWork& work,
                             const Machine& machine) {
  return {plan_fixed(pieces, limits), plan_variable(pieces, limits, work, machine), plan_per_document(pieces, limits),
          plan_disaggregated(pieces, limits, work)};
}

}  // namespace sluice
