#include "report/compare_table.h"

#include <gtest/gtest.h>

#include <limits>
#include <sstream>

namespace sluice {
namespace {

constexpr SummaryMetric kThreeDigits{"key", "group", "", "title", 3};
constexpr SummaryMetric kCount{"key", "group", "", "title", 0};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

TextTable small_table() {
  TextTable table;
  table.columns = {{"", "steps"}, {"loss [nats]", "train"}, {"loss [nats]", "eval"}, {"gate", "mean"}};
  table.rows = {{"softmax", 0, false, {"1,000", "2.232", "2.3", "-"}},
                {"a|b", 1, true, {"20", "2.23 ± 0.01", "2.4", "0.5"}}};
  table.footnotes = {"a note"};
  return table;
}

TEST(CompareTable, FormatsSignificantDigits) {
  EXPECT_EQ(format_significant(2.23156, 4), "2.232");
  EXPECT_EQ(format_significant(140.72, 4), "140.7");
  EXPECT_EQ(format_significant(12345, 3), "12345");
  EXPECT_EQ(format_significant(0.0075123, 3), "0.00751");
  EXPECT_EQ(format_significant(7.9e-5, 3), "7.90e-5");
  EXPECT_EQ(format_significant(-2.5e7, 2), "-2.5e7");
  EXPECT_EQ(format_significant(0, 3), "0");
  EXPECT_EQ(format_significant(std::numeric_limits<double>::quiet_NaN(), 3), "nan");
  EXPECT_EQ(format_count(814080), "814,080");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(-123456), "-123,456");
}

TEST(CompareTable, RoundsTheMeanWhereItsDeviationBegins) {
  EXPECT_EQ(format_spread(kThreeDigits, {2.23456, 0.0123, 3}), "2.235 ± 0.012");
  EXPECT_EQ(format_spread(kThreeDigits, {140.7, 12.3, 3}), "141 ± 12");
  EXPECT_EQ(format_spread(kThreeDigits, {2.23456, 1e-17, 3}), "2.235 ± 0.000");
  EXPECT_EQ(format_spread(kThreeDigits, {0.5, 0, 3}), "0.500 ± 0.000");
  EXPECT_EQ(format_spread(kThreeDigits, {7.9e-5, 1.2e-6, 3}), "7.90e-5 ± 1.2e-6");
  EXPECT_EQ(format_spread(kThreeDigits, {0, 0, 3}), "0.00 ± 0.00");
  EXPECT_EQ(format_spread(kCount, {81234.6, 120.4, 3}), "81,235 ± 120");
  EXPECT_EQ(format_spread(kCount, {814080, 0, 3}), "814,080");
}

TEST(CompareTable, AlignsColumnsOnTheScreen) {
  const std::vector<std::string> lines = lines_of(to_text(small_table()));
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[0], "                loss [nats]        gate");
  EXPECT_EQ(lines[1], "run      steps        train  eval  mean");
  EXPECT_EQ(lines[2], std::string(39, '-'));
  EXPECT_EQ(lines[3], "softmax  1,000        2.232   2.3     -");
  EXPECT_EQ(lines[4], "a|b         20  2.23 ± 0.01   2.4   0.5");
  EXPECT_EQ(lines[5], "a note");
}

TEST(CompareTable, CutsAWideTableBetweenHeadings) {
  const std::vector<std::string> lines = lines_of(to_text(small_table(), 36));
  // steps and both losses fit, the gate goes into a second block with the labels repeated.
  ASSERT_EQ(lines.size(), 12u);
  EXPECT_EQ(lines[1], "run      steps        train  eval");
  EXPECT_EQ(lines[5], "");
  EXPECT_EQ(lines[7], "run      mean");
  EXPECT_EQ(lines[9], "softmax     -");
  // A limit that nothing satisfies still ends.
  EXPECT_EQ(lines_of(to_text(small_table(), 1)).size(), 4u * 6);
}

TEST(CompareTable, WritesMarkdown) {
  const std::vector<std::string> lines = lines_of(to_markdown(small_table()));
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[0], "| run | steps | loss [nats] train | loss [nats] eval | gate mean |");
  EXPECT_EQ(lines[1], "|---|---:|---:|---:|---:|");
  EXPECT_EQ(lines[3], "| a\\|b | 20 | 2.23 ± 0.01 | 2.4 | 0.5 |");
  EXPECT_EQ(lines[5], "- a note");
}

}  // namespace
}  // namespace sluice
