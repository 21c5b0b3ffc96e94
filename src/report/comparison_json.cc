// A comparison as JSON: final figures of every run, layer and head, the groups, the differences and the warnings.
#include <cmath>

#include "report/compare.h"

namespace sluice {
namespace {

Json values_json(const std::vector<SummaryMetric>& metrics, const std::map<std::string, double>& values) {
  Json out = Json::object();
  for (const SummaryMetric& metric : metrics) {
    const auto found = values.find(metric.key);
    if (found == values.end()) continue;
    const bool is_integer =
        metric.digits == 0 && std::abs(found->second) <= 0x1p53 && found->second == std::floor(found->second);
    out[metric.key] = is_integer ? Json(int64_t(found->second)) : Json(found->second);
  }
  return out;
}

using FinalFields = std::map<std::string, double>;

// Every final probe and gate value of each head, and (head -1) of each layer, in one pass over the series.
std::map<HeadId, FinalFields> final_fields(const RunRecord& run) {
  std::map<HeadId, FinalFields> out;
  for (const auto& [key, points] : run.series) {
    if (key.layer < 0) continue;
    const std::string name = key.kind == "probe" ? key.field : key.kind + "_" + key.field;
    out[{key.layer, key.head}][name] = points.values.back();
  }
  return out;
}

// The members as they are: an object searches all of its keys for each that it is given.
Json with_fields(Json address, const FinalFields& fields) {
  auto& members = address.get_ref<Json::object_t&>();
  for (const auto& [name, value] : fields) {
    if (name != "layer" && name != "head") members.emplace_back(name, value);
  }
  return address;
}

Json run_json(const std::vector<SummaryMetric>& metrics, const RunRecord& run, const RunSummary& row) {
  Json out = {
      {"name", row.label}, {"path", run.path}, {"last_step", run.last_step() < 0 ? Json() : Json(run.last_step())}};
  if (run.config.contains("seed")) out["seed"] = run.config.at("seed");
  out["summary"] = values_json(metrics, row.values);
  if (row.head) out["summary_head"] = {{"layer", row.head->layer}, {"head", row.head->head}};
  if (row.residual_layer) out["summary_residual_layer"] = *row.residual_layer;
  out["layers"] = Json::array();
  const std::map<HeadId, FinalFields> fields = final_fields(run);
  const auto fields_of = [&](const HeadId& id) {
    const auto found = fields.find(id);
    return found == fields.end() ? FinalFields{} : found->second;
  };
  for (const int64_t layer : run.layers())
    out["layers"].push_back(with_fields({{"layer", layer}}, fields_of({layer, -1})));
  out["heads"] = Json::array();
  for (const HeadId& id : run.heads())
    out["heads"].push_back(with_fields({{"layer", id.layer}, {"head", id.head}}, fields_of(id)));
  out["info"] = run.info;
  out["notes"] = run.notes;
  return out;
}

}  // namespace

Json to_json(const Comparison& comparison) {
  Json out = {{"runs", Json::array()}, {"groups", Json::array()}};
  for (size_t i = 0; i < comparison.runs.size(); ++i) {
    out["runs"].push_back(run_json(comparison.metrics, comparison.runs[i], comparison.rows[i]));
  }
  for (const SeedGroup& group : comparison.groups) {
    Json entry = {
        {"name", group.label}, {"runs", Json::array()}, {"mean", Json::object()}, {"deviation", Json::object()}};
    for (const size_t i : group.members) entry["runs"].push_back(comparison.rows[i].label);
    for (const SummaryMetric& metric : comparison.metrics) {
      const auto found = group.values.find(metric.key);
      if (found == group.values.end()) continue;
      entry["mean"][metric.key] = found->second.mean;
      entry["deviation"][metric.key] = found->second.count > 1 ? Json(found->second.deviation) : Json();
    }
    out["groups"].push_back(std::move(entry));
  }
  out["differences"] = Json::object();
  for (const RunDifference& entry : comparison.differences) out["differences"][entry.key] = entry.values;
  out["warnings"] = comparison.warnings;
  return out;
}

}  // namespace sluice
