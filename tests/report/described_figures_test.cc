// Figures that an analysis describes itself: columns of the comparison, whose words come out of a file.
#include <gtest/gtest.h>

#include <algorithm>

#include "report/compare.h"
#include "report/compare_table.h"
#include "report/run_builder.h"

namespace sluice {
namespace {

// A run whose analysis has the figure `key`, 0.25, and describes it.
Comparison compare_described(const RunBuilder& build, const std::string& key, const std::string& title) {
  const Json analysis = {
      {"step", 20},
      {"sequences", 1},
      {"length", 2},
      {"summary", {{key, 0.25}}},
      {"layers", Json::array()},
      {"heads", Json::array()},
      {"residual_norm", Json::array()},
      {"curves", Json::array()},
      {"figures", Json::array({{{"key", key}, {"group", "attention"}, {"title", title}, {"meaning", "a share"}}})}};
  build.add("run", 1, 0.5);
  return compare_runs({read_run(build.write("run", "analysis/step_00000020.json", analysis.dump()))});
}

TEST(DescribedFigures, AreColumnsOfTheComparison) {
  const RunBuilder build;
  const Comparison comparison = compare_described(build, "new_share", "new");
  EXPECT_EQ(comparison.rows[0].values.at("new_share"), 0.25);
  const TextTable table = make_table(comparison);
  const auto column = std::find_if(table.columns.begin(), table.columns.end(),
                                   [](const auto& one) { return one.group == "attention" && one.title == "new"; });
  ASSERT_NE(column, table.columns.end());
  EXPECT_EQ(table.rows[0].cells[size_t(column - table.columns.begin())], "0.250");
}

TEST(DescribedFigures, DoNothingToATerminal) {
  const RunBuilder build;
  const Comparison comparison = compare_described(build, "new_share", "\x1b]0;title\x07\nline");
  for (const std::string& text : {to_text(make_table(comparison)), to_markdown(make_table(comparison))}) {
    EXPECT_EQ(text.find_first_of("\x1b\x07"), std::string::npos) << text;
    EXPECT_NE(text.find("\\x1b]0;title"), std::string::npos) << text;
  }
}

TEST(DescribedFigures, DoNotRedefineAColumnThatHasAName) {
  const RunBuilder build;
  const Comparison comparison = compare_described(build, "train_loss", "loss");
  const Comparison plain = compare_runs({read_run(build.add("plain", 1, 0.5))});
  EXPECT_EQ(comparison.rows[0].values.at("train_loss"), plain.rows[0].values.at("train_loss"));
}

}  // namespace
}  // namespace sluice
