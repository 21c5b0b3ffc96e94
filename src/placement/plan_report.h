// Plans of some steps as a table, as JSON and as a picture.
#pragma once

#include <string>
#include <vector>

#include "base/config/config.h"
#include "base/text_table.h"
#include "placement/plan_cost.h"

namespace sluice {

struct PlanReport {
  int64_t context = 0, tokens = 0;  // of a window; of a rank
  int64_t pieces = 0;               // of all steps
  PlanLimits limits;
  Machine machine;
  ModelWork work;
  std::vector<std::vector<PlanCost>> steps;  // at least one; in each the same plans, the first of them fixed packing
};

// Means over the steps; of bytes and tokens the most of any step and rank.
TextTable make_table(const PlanReport& report);

// The same, the setting, and what each rank does in the first step.
Json to_json(const PlanReport& report);

// An SVG of the first step: a panel for each plan, a bar for each rank, its linear layers below and its attention on
// top, and a line where the step ends.
std::string to_svg(const PlanReport& report);

}  // namespace sluice
