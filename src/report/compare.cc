// Runs side by side: labels that tell them apart, groups that differ by seed alone, and where their configs differ.
#include "report/compare.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <unordered_set>

#include "report/comparison_warnings.h"
#include "report/summary.h"

namespace sluice {
namespace {

// Labels that several rows share get something to tell them by: the seed, else the path, else the place in the list.
void make_labels_unique(std::vector<RunSummary>& rows, const std::vector<RunRecord>& runs) {
  const auto is_shared = [&](const std::string& label) {
    return std::count_if(rows.begin(), rows.end(), [&](const RunSummary& r) { return r.label == label; }) > 1;
  };
  const auto extend = [&](const std::function<std::string(size_t)>& extra) {
    std::vector<std::string> labels;
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::string more = is_shared(rows[i].label) ? extra(i) : "";
      labels.push_back(more.empty() ? rows[i].label : fmt::format("{} {}", rows[i].label, more));
    }
    for (size_t i = 0; i < rows.size(); ++i) rows[i].label = labels[i];
  };
  std::map<std::string, std::set<std::string>> seeds;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (runs[i].config.contains("seed")) seeds[rows[i].label].insert(runs[i].config.at("seed").dump());
  }
  extend([&](size_t i) {
    const bool tells = runs[i].config.contains("seed") && seeds[rows[i].label].size() > 1;
    return tells ? fmt::format("seed {}", runs[i].config.at("seed").dump()) : "";
  });
  extend([&](size_t i) { return fmt::format("({})", runs[i].path); });
  extend([&](size_t i) { return fmt::format("#{}", i + 1); });
}

// "bb-vga-s1" and "bb-vga-s2" make "bb-vga".
std::string common_label(const std::vector<std::string>& names) {
  std::string common = names.front();
  for (const std::string& name : names) {
    const auto differ = std::mismatch(common.begin(), common.end(), name.begin(), name.end());
    common.erase(differ.first, common.end());
  }
  if (std::all_of(names.begin(), names.end(), [&](const std::string& name) { return name == common; })) return common;
  const auto strip = [&](const std::string& tail) {
    if (common.ends_with(tail)) common.resize(common.size() - tail.size());
  };
  const std::string separators = "-_./ ";
  const auto strip_separators = [&] {
    while (!common.empty() && separators.find(common.back()) != std::string::npos) common.pop_back();
  };
  // Digits that the seeds happen to share ("s12", "s13") are no part of the name.
  std::string without_digits = common;
  while (!without_digits.empty() && std::isdigit(static_cast<unsigned char>(without_digits.back()))) {
    without_digits.pop_back();
  }
  if (without_digits.ends_with("seed") || without_digits.ends_with("-s") || without_digits.ends_with("_s")) {
    common = without_digits;
  }
  strip_separators();
  for (const char* tail : {"seed", "-s", "_s"}) strip(tail);
  strip_separators();
  return common.empty() ? names.front() : common;
}

// A second run of one seed says nothing about seeds, and is in a group of its own, or with others of their second.
std::vector<SeedGroup> group_by_seed(const std::vector<RunRecord>& runs) {
  struct Known {
    Json config;
    std::set<std::string> seeds;
  };
  std::vector<SeedGroup> groups;
  std::vector<Known> known;
  for (size_t i = 0; i < runs.size(); ++i) {
    Json key = runs[i].config;
    const std::string seed = key.contains("seed") ? key.at("seed").dump() : "";
    for (const char* own : {"seed", "name", "output"}) key.erase(own);
    // Without a config, or a seed, nothing is known to be equal.
    const auto found = seed.empty() ? known.end() : std::find_if(known.begin(), known.end(), [&](const Known& group) {
      return !group.seeds.contains(seed) && group.config == key;
    });
    if (found != known.end()) {
      groups[size_t(found - known.begin())].members.push_back(i);
      found->seeds.insert(seed);
    } else {
      known.push_back({std::move(key), {seed}});
      groups.push_back({{}, {i}, {}});
    }
  }
  return groups;
}

SeedSpread spread_of(const std::vector<double>& values) {
  SeedSpread out;
  out.count = int64_t(values.size());
  for (const double v : values) out.mean += v / double(values.size());
  if (values.size() < 2) return out;
  double squares = 0;
  for (const double v : values) squares += (v - out.mean) * (v - out.mean);
  out.deviation = std::sqrt(squares / double(values.size() - 1));
  return out;
}

void summarise_groups(Comparison& comparison) {
  for (SeedGroup& group : comparison.groups) {
    std::vector<std::string> names;
    for (const size_t i : group.members) names.push_back(comparison.runs[i].name);
    group.label = group.members.size() > 1 ? common_label(names) : comparison.rows[group.members[0]].label;
    for (const SummaryMetric& metric : comparison.metrics) {
      std::vector<double> values;
      std::set<std::string> ways;
      for (const size_t i : group.members) {
        const auto& known = comparison.rows[i].values;
        const auto found = known.find(metric.key);
        if (found == known.end()) continue;
        values.push_back(found->second);
        ways.insert(measured_how(comparison.runs[i], metric.key));
      }
      if (ways.size() == 1) group.values[metric.key] = spread_of(values);
    }
  }
  // Two groups may still share a label (runs of one name under two settings): the first member's row label is unique.
  for (SeedGroup& group : comparison.groups) {
    const bool shared = std::count_if(comparison.groups.begin(), comparison.groups.end(),
                                      [&](const SeedGroup& g) { return g.label == group.label; }) > 1;
    if (shared) group.label = comparison.rows[group.members[0]].label;
  }
}

// Dotted keys in the order in which they come first.
struct KeyOrder {
  std::vector<std::string> keys;
  std::unordered_set<std::string> seen;
};

void flatten(const Json& json, const std::string& prefix, std::map<std::string, Json>& out, KeyOrder& order) {
  for (const auto& [key, value] : json.items()) {
    const std::string path = prefix.empty() ? key : prefix + "." + key;
    if (value.is_object() && !value.empty()) {
      flatten(value, path, out, order);
    } else {
      if (order.seen.insert(path).second) order.keys.push_back(path);
      out[path] = value;
    }
  }
}

std::vector<RunDifference> config_differences(const std::vector<RunRecord>& runs) {
  std::vector<std::map<std::string, Json>> flat(runs.size());
  KeyOrder order;
  for (size_t i = 0; i < runs.size(); ++i) flatten(runs[i].config, "", flat[i], order);
  std::vector<RunDifference> out;
  for (const std::string& key : order.keys) {
    RunDifference entry{key, {}};
    for (const auto& config : flat) {
      const auto found = config.find(key);
      entry.values.push_back(found == config.end() ? Json() : found->second);
    }
    const auto differs = [&](const Json& value) { return value != entry.values.front(); };
    if (std::any_of(entry.values.begin(), entry.values.end(), differs)) out.push_back(std::move(entry));
  }
  return out;
}

}  // namespace

Comparison compare_runs(std::vector<RunRecord> runs) {
  Comparison out;
  out.runs = std::move(runs);
  out.metrics = metrics_of(out.runs);
  for (const RunRecord& run : out.runs) out.rows.push_back(summarise(run));
  make_labels_unique(out.rows, out.runs);
  out.groups = group_by_seed(out.runs);
  summarise_groups(out);
  out.differences = config_differences(out.runs);
  out.warnings = find_warnings(out);
  return out;
}

}  // namespace sluice
