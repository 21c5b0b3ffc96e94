// What a comparison shows, in words for someone who has never heard of attention sinks: each finding explains one
// notion, gives every group's figure and draws the conclusion that those figures support. Nothing is asserted about
// a variant that the runs at hand do not show.
#pragma once

#include <string>
#include <vector>

#include "report/compare.h"

namespace sluice {

struct FindingItem {
  size_t seed_group = 0;  // index into Comparison::groups
  std::string text;       // follows the group's label: "puts 0.79 of its attention on position 0"
};

struct Finding {
  std::string key;  // "task", "sink", "drain", "residual", "gate"
  std::string title;
  std::string explanation;  // what the notion means
  std::vector<FindingItem> items;
  std::string verdict;  // computed from the items; may be empty
};

// Only findings for which some run has figures.
std::vector<Finding> find_findings(const Comparison& comparison);

// "a", "a and b", "a, b and c"
std::string join_words(const std::vector<std::string>& words);

}  // namespace sluice
