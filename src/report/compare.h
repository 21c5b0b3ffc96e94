// Compares runs by their final figures: one summary a run, one mean and spread per group of runs that differ only by
// seed, and the same as JSON. The columns are one list (Comparison::metrics) that the console table, the Markdown, the
// JSON and the report share. Metrics as in arXiv 2410.13835 (Bigram-Backcopy) and 2510.09017 (VGA).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "report/run_reader.h"

namespace sluice {

// One column. `group` and `unit` go into the header above `title`; consecutive columns of a group share it.
struct SummaryMetric {
  std::string key, group, unit, title;
  int digits;  // significant digits; 0: an integer with thousands separators
};
const std::vector<SummaryMetric>& summary_metrics();  // those that are known by name

struct RunSummary {
  std::string label;                      // unique among the runs compared
  std::optional<HeadId> head;             // the head with the largest final sink attention; its figures stand in values
  std::optional<int64_t> residual_layer;  // the layer with the largest final residual norm at position 0
  std::map<std::string, double> values;   // by SummaryMetric::key; absent where the run does not know it
};

struct SeedSpread {
  double mean = 0, deviation = 0;  // deviation: of the sample (n - 1); 0 for a single value
  int64_t count = 0;
};

struct SeedGroup {
  std::string label;                         // unique among the groups
  std::vector<size_t> members;               // indices of runs, in the order given
  std::map<std::string, SeedSpread> values;  // by SummaryMetric::key; over the members that know it, if it
                                             // was measured alike in all of them
};

struct RunDifference {
  std::string key;           // dotted: "model.attention.gate.site"
  std::vector<Json> values;  // one a run; null where the run's config has no such key
};

struct Comparison {
  std::vector<RunRecord> runs;
  std::vector<SummaryMetric> metrics;  // the columns: summary_metrics(), and the figures that the runs describe
  std::vector<RunSummary> rows;        // one a run
  std::vector<SeedGroup> groups;       // every run is in exactly one; a run without sibling is a group of one
  std::vector<RunDifference> differences;
  std::vector<std::string> warnings;  // one line each
  std::string note;                   // the caller's own words, for the page; may be empty
};

Comparison compare_runs(std::vector<RunRecord> runs);

// The attention gate's site ("source", "output"), or empty where the run has no gate.
std::string gate_site(const RunRecord& run);

// Final figures of every run, layer and head, the groups, the differences and the warnings.
Json to_json(const Comparison& comparison);

}  // namespace sluice
