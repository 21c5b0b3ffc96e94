// Plans as a table, as JSON, as a picture.
#include "placement/plan_report.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

PlanReport some_report() {
  PlanReport report;
  report.context = report.tokens = 100;
  report.limits.ranks = 4;
  report.limits.block = 1;
  report.machine = {.linear_rate = 1e12, .attention_rate = 1e12, .bandwidth = 1e9, .tile = 1};
  report.work = {
      .linear_operations = 1e5, .pair_operations = 1000, .query_bytes = 2, .key_value_bytes = 2, .result_bytes = 2};
  for (const Pieces& pieces : {Pieces{100, 50, 50, 20, 80, 10, 90}, Pieces{100, 100, 100, 100}}) {
    report.pieces += int64_t(pieces.size());
    report.steps.emplace_back();
    for (const Plan& plan : make_plans(pieces, report.limits, report.work, report.machine))
      report.steps.back().push_back(cost_of(plan, pieces, report.work, report.machine));
  }
  return report;
}

size_t count(const std::string& text, const std::string& word) {
  size_t found = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++found;
  return found;
}

TEST(PlanReport, SaysMeansOfTheStepsAndTheMostOfARank) {
  const PlanReport report = some_report();
  const Json json = to_json(report);
  ASSERT_EQ(json["plans"].size(), 4u);
  EXPECT_EQ(json["setting"]["pieces"], 11);
  for (size_t plan = 0; plan < 4; ++plan) {
    const PlanCost &first = report.steps[0][plan], &second = report.steps[1][plan];
    const Json& one = json["plans"][plan];
    EXPECT_EQ(one["plan"], first.name);
    EXPECT_DOUBLE_EQ(one["idle_share"], 0.5 * (first.idle_share + second.idle_share));
    EXPECT_DOUBLE_EQ(one["step_seconds"], 0.5 * (first.step_seconds + second.step_seconds));
    EXPECT_DOUBLE_EQ(one["pairs_max_over_mean"], 0.5 * (first.pairs_max_over_mean() + second.pairs_max_over_mean()));
    EXPECT_EQ(one["bytes_per_rank"], std::max(first.most_bytes(), second.most_bytes()));
    EXPECT_EQ(one["tokens_per_rank"], std::max(first.most_tokens(), second.most_tokens()));
    ASSERT_EQ(one["ranks_of_first_step"].size(), 4u);
    EXPECT_EQ(one["ranks_of_first_step"][3]["pairs"], first.ranks[3].pairs);
  }
  EXPECT_EQ(json["plans"][0]["speed_up"], 1.0);
  // Windows of one document each are alike: nothing is to be balanced, and nothing moves.
  EXPECT_EQ(report.steps[1][3].moves, 0);
  EXPECT_DOUBLE_EQ(report.steps[1][0].pairs_max_over_mean(), 1);
}

TEST(PlanReport, IsATableWithALineForEachPlan) {
  const std::string text = to_text(make_table(some_report()));
  for (const char* title : {"fixed packing", "variable-length packing", "per-document context parallel",
                            "disaggregated attention", "no measurement", "foreign keys"})
    EXPECT_NE(text.find(title), std::string::npos) << title << " in\n" << text;
}

TEST(PlanReport, IsAPictureWithABarForEachRank) {
  const std::string svg = to_svg(some_report());
  EXPECT_EQ(svg.find("<svg"), 0u);
  EXPECT_EQ(svg.substr(svg.size() - 7), "</svg>\n");
  EXPECT_EQ(count(svg, "<path class=\"linear\""), 4u);
  EXPECT_EQ(count(svg, "<path class=\"attention\""), 4u);
  EXPECT_EQ(count(svg, "z"), 2 * 4 * 4u + count(svg, "size"));  // a closed bar for each rank in each path
  EXPECT_EQ(count(svg, "nan") + count(svg, "inf"), 0u);
}

}  // namespace
}  // namespace sluice
