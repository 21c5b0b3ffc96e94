// One run's final figures, by the columns of summary_metrics() (compare.h).
#pragma once

#include <string>

#include "report/compare.h"

namespace sluice {

RunSummary summarise(const RunRecord& run);

// The columns of a comparison of these runs.
std::vector<SummaryMetric> metrics_of(const std::vector<RunRecord>& runs);

// What a figure of the full probe or of a quantized model depends on, where it was measured after the training; empty
// for all others.
std::string measured_how(const RunRecord& run, const std::string& key);

}  // namespace sluice
