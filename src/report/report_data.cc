// The report's embedded JSON:
//   groups  [{label, runs: [run index]}]
//   runs    [{label, group, head, series: [{kind, field, layer, head, steps: index into step_lists, values}],
//             attention: {first, last}, analysis: {step, sequences, residual_norm, curves, mean_attention}, config,
//             info}]
//   step_lists  lists of steps, shared by the series that have the same
//   figures     [{key, title, meaning, of_heads}]: those that the runs' analyses describe
//   differences [{key, values}]
// A map's weights are its lower triangle, or of both sides all of it, row by row, two base-64 digits each: low + code /
// 4095 * (high - low).
#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "report/compare_table.h"
#include "report/report.h"

namespace sluice {
namespace {

constexpr size_t kPointsPerSeries = 1000;
constexpr size_t kPointsInAll = 80'000;  // of the series per layer and head: about 500 kB
constexpr size_t kPointsAtLeast = 20;
constexpr size_t kMapBytesInAll = 400'000;
constexpr int kMapLevels = 4095;

// Of the training lines only the loss is drawn; every other kind is drawn whole or may be.
bool is_drawn(const SeriesKey& key) { return key.kind != "train" || key.field == "loss"; }

double rounded(double value) { return sluice::rounded(value, 4); }  // to keep the file small

TimeSeries every_kth(const TimeSeries& in, size_t limit) {
  const size_t n = in.steps.size(), stride = (n + limit - 1) / limit;
  TimeSeries out;
  const auto keep = [&](size_t i) {
    out.steps.push_back(in.steps[i]);
    out.values.push_back(in.values[i]);
  };
  const size_t offset = (n - 1) % stride;  // so that the last point is kept
  if (offset != 0) keep(0);
  for (size_t i = offset; i < n; i += stride) keep(i);
  return out;
}

TimeSeries bucket_means(const TimeSeries& in, size_t limit) {
  const size_t n = in.steps.size(), stride = (n + limit - 1) / limit;
  TimeSeries out;
  for (size_t begin = 0; begin < n; begin += stride) {
    const size_t end = std::min(n, begin + stride);
    double sum = 0;
    for (size_t i = begin; i < end; ++i) sum += in.values[i];
    out.steps.push_back(in.steps[end - 1]);
    out.values.push_back(sum / double(end - begin));
  }
  return out;
}

// The most points for a series of one layer or head; those of the whole model are few and always get the full number.
size_t points_per_series(const Comparison& comparison) {
  size_t count = 0;
  for (const RunRecord& run : comparison.runs) {
    for (const auto& [key, unused] : run.series) count += is_drawn(key) && key.layer >= 0;
  }
  return std::clamp(kPointsInAll / std::max<size_t>(count, 1), kPointsAtLeast, kPointsPerSeries);
}

class StepLists {
 public:
  size_t index_of(const std::vector<int64_t>& steps) {
    const auto [found, added] = index_.try_emplace(steps, lists_.size());
    if (added) lists_.push_back(steps);
    return found->second;
  }
  const std::vector<std::vector<int64_t>>& lists() const { return lists_; }

 private:
  std::map<std::vector<int64_t>, size_t> index_;
  std::vector<std::vector<int64_t>> lists_;
};

Json series_json(const RunRecord& run, size_t layer_limit, StepLists& step_lists) {
  Json out = Json::array();
  for (const auto& [key, points] : run.series) {
    if (!is_drawn(key)) continue;
    const size_t limit = key.layer < 0 ? kPointsPerSeries : layer_limit;
    const TimeSeries thin = key.kind == "train" ? bucket_means(points, limit) : every_kth(points, limit);
    Json values = Json::array();
    for (const double value : thin.values) values.push_back(rounded(value));
    out.push_back({{"kind", key.kind},
                   {"field", key.field},
                   {"layer", key.layer},
                   {"head", key.head},
                   {"steps", step_lists.index_of(thin.steps)},
                   {"values", std::move(values)}});
  }
  return out;
}

Json map_json(const RecordedMap& map) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  double low = 0, high = 1;  // weights beyond these come only from scores that are not normalised
  for (const auto& row : map.weights) {
    for (const double w : row) {
      if (std::isfinite(w)) low = std::min(low, w), high = std::max(high, w);
    }
  }
  const double range = high / 2 - low / 2;  // halves, because a file may hold the largest numbers there are
  std::string codes;
  for (const auto& row : map.weights) {
    for (const double w : row) {
      const double share = std::isfinite(w) ? (w / 2 - low / 2) / range : 0;
      const int code = int(std::lround(share * kMapLevels));
      codes += kDigits[size_t(code / 64)];
      codes += kDigits[size_t(code % 64)];
    }
  }
  Json out = {
      {"layer", map.id.layer}, {"head", map.id.head}, {"low", rounded(low)}, {"high", rounded(high)}, {"codes", codes}};
  if (map.both_sides) out["whole"] = true;
  if (!map.gate.empty()) {
    out["gate"] = Json::array();
    for (const double g : map.gate) out["gate"].push_back(rounded(g));
  }
  return out;
}

// The heads whose maps are shown: all if there is room, else those that look most at position 0 in any run.
std::set<HeadId> heads_with_maps(const Comparison& comparison) {
  std::map<HeadId, double> strength;
  size_t bytes = 0;
  const auto count = [&](const RunRecord& run, const RecordedAttention& snapshot) {
    for (const RecordedMap& map : snapshot.maps) {
      const double sink = run.final_value("probe", "sink_attention", map.id.layer, map.id.head).value_or(0);
      double& known = strength.try_emplace(map.id, 0.0).first->second;
      known = std::max(known, sink);
      bytes += map.weights.size() * (map.both_sides ? 2 * map.weights.size() : map.weights.size() + 1);
    }
  };
  for (const RunRecord& run : comparison.runs) {
    if (run.first_attention) count(run, *run.first_attention);
    if (run.last_attention) count(run, *run.last_attention);
    if (!run.analysis) continue;
    count(run, run.analysis->mean);
    for (const Json& curves : run.analysis->curves) {
      strength.try_emplace({curves.at("layer"), curves.at("head")}, 0.0);
      bytes += curves.dump().size();
    }
  }
  std::vector<HeadId> order;
  for (const auto& [id, unused] : strength) order.push_back(id);
  std::stable_sort(order.begin(), order.end(),
                   [&](const HeadId& a, const HeadId& b) { return strength[a] > strength[b]; });
  if (bytes > kMapBytesInAll && !order.empty()) {
    const size_t bytes_per_head = std::max<size_t>(bytes / order.size(), 1);
    order.resize(std::clamp<size_t>(kMapBytesInAll / bytes_per_head, 1, order.size()));
  }
  return {order.begin(), order.end()};
}

Json snapshot_json(const std::optional<RecordedAttention>& snapshot, const std::set<HeadId>& shown) {
  if (!snapshot) return nullptr;
  Json out = {{"step", snapshot->step}, {"tokens", snapshot->tokens}, {"maps", Json::array()}};
  for (const RecordedMap& map : snapshot->maps) {
    if (shown.contains(map.id)) out["maps"].push_back(map_json(map));
  }
  return out;
}

// Curves of the heads whose maps are shown; with many heads they take as much room.
Json analysis_json(const std::optional<RecordedAnalysis>& analysis, const std::set<HeadId>& shown) {
  if (!analysis) return nullptr;
  Json out = {{"step", analysis->step},
              {"sequences", analysis->sequences},
              {"residual_norm", analysis->residual_norm},
              {"curves", Json::array()}};
  for (const Json& curves : analysis->curves)
    if (shown.contains({curves.at("layer"), curves.at("head")})) out["curves"].push_back(curves);
  if (!analysis->mean.maps.empty()) out["mean_attention"] = snapshot_json(analysis->mean, shown);
  return out;
}

Json figures_json(const Comparison& comparison) {
  Json out = Json::array();
  std::set<std::string> known;
  for (const RunRecord& run : comparison.runs)
    for (const RecordedFigure& figure : run.analysis ? run.analysis->figures : std::vector<RecordedFigure>{})
      if (known.insert(figure.key).second)
        out.push_back({{"key", figure.key},
                       {"title", figure.group.empty() ? figure.title : figure.group + ", " + figure.title},
                       {"meaning", figure.meaning},
                       {"of_heads", figure.of_heads}});
  return out;
}

}  // namespace

Json report_data(const Comparison& comparison) {
  Json out = {{"groups", Json::array()},
              {"runs", Json::array()},
              {"step_lists", Json::array()},
              {"differences", Json::array()}};
  std::vector<size_t> group_of(comparison.runs.size());
  for (size_t g = 0; g < comparison.groups.size(); ++g) {
    const SeedGroup& group = comparison.groups[g];
    for (const size_t i : group.members) group_of[i] = g;
    out["groups"].push_back({{"label", group.label}, {"runs", group.members}});
  }
  const size_t limit = points_per_series(comparison);
  const std::set<HeadId> shown = heads_with_maps(comparison);
  StepLists step_lists;
  for (size_t i = 0; i < comparison.runs.size(); ++i) {
    const RunRecord& run = comparison.runs[i];
    Json entry = {{"label", comparison.rows[i].label}, {"group", group_of[i]}};
    if (const auto& head = comparison.rows[i].head) entry["head"] = {{"layer", head->layer}, {"head", head->head}};
    entry["series"] = series_json(run, limit, step_lists);
    entry["attention"] = {{"first", snapshot_json(run.first_attention, shown)},
                          {"last", snapshot_json(run.last_attention, shown)}};
    entry["analysis"] = analysis_json(run.analysis, shown);
    entry["config"] = run.config;
    entry["info"] = run.info;
    out["runs"].push_back(std::move(entry));
  }
  out["figures"] = figures_json(comparison);
  for (const auto& steps : step_lists.lists()) out["step_lists"].push_back(steps);
  for (const RunDifference& entry : comparison.differences) {
    out["differences"].push_back({{"key", entry.key}, {"values", entry.values}});
  }
  return out;
}

}  // namespace sluice
