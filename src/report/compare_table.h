// The comparison as a table of strings, and that table as aligned text or Markdown.
#pragma once

#include <string>
#include <vector>

#include "report/compare.h"

namespace sluice {

struct ComparisonColumn {
  std::string group;  // "loss [nats]"; consecutive columns of one group stand under one heading; may be empty
  std::string title;
};

struct ComparisonRow {
  std::string label;
  size_t seed_group = 0;           // index into Comparison::groups
  bool is_mean = false;            // mean and deviation over a group of seeds
  std::vector<std::string> cells;  // one a column; "-" where unknown
};

struct ComparisonTable {
  std::string corner = "run";          // above the labels
  std::vector<ComparisonColumn> columns;
  std::vector<ComparisonRow> rows;     // the runs in order, then the groups of more than one
  std::vector<std::string> footnotes;  // how to read it, one sentence each
};

// Columns that no run knows are left out; a "head" column appears where a run has more than one.
ComparisonTable make_table(const Comparison& comparison);

// At most `max_width` characters a line if that is possible (0: no limit): a wide table is cut between columns
// into blocks that repeat the labels.
std::string to_text(const ComparisonTable& table, size_t max_width = 0);
std::string to_markdown(const ComparisonTable& table);

// 4 digits: 2.232, 140.7, 0.07512, 7.512e-5, 0, nan.
std::string format_significant(double value, int digits);
std::string format_count(double value);  // 814,080
std::string format_metric(const SummaryMetric& metric, double value);
std::string format_spread(const SummaryMetric& metric, const SeedSpread& spread);  // "2.2320 ± 0.0011"

}  // namespace sluice
