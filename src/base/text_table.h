// A table of strings, and that table as aligned text or Markdown.
#pragma once

#include <string>
#include <vector>

namespace sluice {

struct TextColumn {
  std::string group;  // "loss [nats]"; consecutive columns of one group stand under one heading; may be empty
  std::string title;
};

struct TextRow {
  std::string label;
  size_t seed_group = 0;           // whose colour it has; of a comparison, an index into Comparison::groups
  bool is_mean = false;            // mean and deviation over the rows of its group
  std::vector<std::string> cells;  // one a column; "-" where unknown
};

struct TextTable {
  std::string corner = "run";  // above the labels
  std::vector<TextColumn> columns;
  std::vector<TextRow> rows;
  std::vector<std::string> footnotes;  // how to read it, one sentence each
};

// At most `max_width` characters a line if that is possible (0: no limit): a wide table is cut between columns
// into blocks that repeat the labels.
std::string to_text(const TextTable& table, size_t max_width = 0);
std::string to_markdown(const TextTable& table);

}  // namespace sluice
