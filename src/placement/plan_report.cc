// The table and the JSON of plans (plan_report.h).
#include "placement/plan_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/number_text.h"

namespace sluice {
namespace {

struct Figures {
  double pairs_max_over_mean = 0, busy_max_over_mean = 0, idle_share = 0, step_seconds = 0, moves = 0, unplaced = 0;
  double bytes = 0;
  int64_t tokens = 0, foreign_keys = 0;
};

Figures figures_of(const PlanReport& report, size_t plan) {
  Figures f;
  const double share = 1.0 / double(report.steps.size());
  for (const std::vector<PlanCost>& step : report.steps) {
    const PlanCost& cost = step[plan];
    f.pairs_max_over_mean += share * cost.pairs_max_over_mean();
    f.busy_max_over_mean += share * cost.busy_max_over_mean();
    f.idle_share += share * cost.idle_share;
    f.step_seconds += share * cost.step_seconds;
    f.moves += share * double(cost.moves);
    f.unplaced += share * double(cost.unplaced);
    f.bytes = std::max(f.bytes, cost.most_bytes());
    f.tokens = std::max(f.tokens, cost.most_tokens());
    f.foreign_keys = std::max(f.foreign_keys, cost.most_foreign_keys());
  }
  return f;
}

Json rank_json(const RankCost& rank) {
  return {{"tokens", rank.tokens},
          {"foreign_keys", rank.foreign_keys},
          {"pairs", rank.pairs},
          {"linear_seconds", rank.linear_seconds},
          {"attention_seconds", rank.attention_seconds},
          {"sent_bytes", rank.sent},
          {"received_bytes", rank.received}};
}

Json setting_json(const PlanReport& report) {
  const Machine& machine = report.machine;
  const ModelWork& work = report.work;
  return {{"ranks", report.limits.ranks},
          {"context", report.context},
          {"tokens_per_rank", report.tokens},
          {"steps", report.steps.size()},
          {"pieces", report.pieces},
          {"linear_operations_per_second", machine.linear_rate},
          {"attention_operations_per_second", machine.attention_rate},
          {"bandwidth_bytes_per_second", machine.bandwidth},
          {"tile", machine.tile},
          {"tolerance", report.limits.tolerance},
          {"block", report.limits.block},
          {"most_tokens", report.limits.most_tokens},
          {"linear_operations_per_token", work.linear_operations},
          {"attention_operations_per_pair", work.pair_operations},
          {"query_bytes_per_token", work.query_bytes},
          {"key_value_bytes_per_token", work.key_value_bytes},
          {"result_bytes_per_token", work.result_bytes}};
}

}  // namespace

TextTable make_table(const PlanReport& report) {
  TextTable table;
  table.corner = "plan";
  table.columns = {{"max / mean", "pairs"},
                   {"max / mean", "time"},
                   {"", "idle"},
                   {"step", "ms"},
                   {"step", "speed-up"},
                   {"most of a rank", "MB"},
                   {"most of a rank", "tokens"},
                   {"most of a rank", "foreign keys"},
                   {"", "moves"}};
  const double fixed = figures_of(report, 0).step_seconds;
  for (size_t plan = 0; plan < report.steps[0].size(); ++plan) {
    const Figures f = figures_of(report, plan);
    table.rows.push_back(
        {.label = report.steps[0][plan].title,
         .cells = {fmt::format("{:.3f}", f.pairs_max_over_mean), fmt::format("{:.3f}", f.busy_max_over_mean),
                   fmt::format("{:.1f}%", 100 * f.idle_share), format_significant(1e3 * f.step_seconds, 4),
                   fmt::format("{:.2f}", fixed / f.step_seconds), format_significant(1e-6 * f.bytes, 4),
                   format_count(double(f.tokens)), format_count(double(f.foreign_keys)),
                   format_significant(f.moves, 3)}});
  }
  table.footnotes = {
      fmt::format("A model of {} ranks with {} tokens each, mean of {} steps: no measurement. Pairs: of queries and "
                  "keys, in attention. Time: in which a rank computes.",
                  report.limits.ranks, report.tokens, report.steps.size()),
      "MB: sent or received in a step. Foreign keys: tokens of other ranks whose keys and values it is sent."};
  return table;
}

Json to_json(const PlanReport& report) {
  Json plans = Json::array();
  const double fixed = figures_of(report, 0).step_seconds;
  for (size_t plan = 0; plan < report.steps[0].size(); ++plan) {
    const Figures f = figures_of(report, plan);
    Json ranks = Json::array();
    for (const RankCost& rank : report.steps[0][plan].ranks) ranks.push_back(rank_json(rank));
    plans.push_back({{"plan", report.steps[0][plan].name},
                     {"pairs_max_over_mean", f.pairs_max_over_mean},
                     {"time_max_over_mean", f.busy_max_over_mean},
                     {"idle_share", f.idle_share},
                     {"step_seconds", f.step_seconds},
                     {"speed_up", fixed / f.step_seconds},
                     {"bytes_per_rank", f.bytes},
                     {"tokens_per_rank", f.tokens},
                     {"foreign_keys_per_rank", f.foreign_keys},
                     {"moves", f.moves},
                     {"unplaced", f.unplaced},
                     {"ranks_of_first_step", ranks}});
  }
  return {{"setting", setting_json(report)}, {"plans", plans}};
}

}  // namespace sluice
