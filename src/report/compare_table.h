// The comparison as a table of strings.
#pragma once

#include <string>

#include "base/number_text.h"
#include "base/text_table.h"
#include "report/compare.h"

namespace sluice {

enum class Columns {
  kAll,
  kMain,  // what a screen has room for; a footnote says how many others there are
};

// The runs in order, then the groups of more than one. Columns that no run knows are left out; a "head" column appears
// where a run has more than one.
TextTable make_table(const Comparison& comparison, Columns columns = Columns::kAll);

std::string format_metric(const SummaryMetric& metric, double value);
std::string format_spread(const SummaryMetric& metric, const SeedSpread& spread);  // "2.2320 ± 0.0011"

}  // namespace sluice
