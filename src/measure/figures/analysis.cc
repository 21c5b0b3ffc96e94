// Analyses as JSON: whole files and lines of metrics (analysis.h).
#include "measure/figures/analysis.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/files/files.h"
#include "base/number_text.h"

namespace sluice {
namespace {

constexpr int kCurveDigits = 4;

template <class Figures>
double value_of(const Figures& figures, const std::vector<double>& values, std::string_view key) {
  const auto found = std::find_if(figures.begin(), figures.end(), [&](const auto& one) { return one.key == key; });
  check(found != figures.end(), "a figure that no list has");
  return values[size_t(found - figures.begin())];
}

// nlohmann writes NaN as null.
template <class Figures, class... Layer>
void put_values(Json& out, const Analysis& analysis, const Figures& figures, const std::vector<double>& values,
                Layer... layer) {
  for (size_t i = 0; i < values.size(); ++i)
    if (analysis.has(figures[i].needs, layer...)) out[figures[i].key] = values[i];
}

// "0.3": the shortest text that reads back as the number.
std::string threshold_key(double threshold) { return Json(threshold).dump(); }

Json sinks_json(const std::vector<SinkRates>& sinks) {
  Json out = Json::object();
  for (const SinkRates& rate : sinks)
    out[threshold_key(rate.threshold)] = {{"first", rate.first}, {"largest", rate.largest}, {"position", rate.position},
                                          {"any", rate.any},     {"later", rate.later},     {"count", rate.count}};
  return out;
}

Json head_json(const Analysis& analysis, const HeadAnalysis& head) {
  Json out = {{"layer", head.layer}, {"head", head.head}};
  if (analysis.has(Needs::kWeights, head.layer)) out["sink_rates"] = sinks_json(head.sinks);
  put_values(out, analysis, head_figures(), head.values, head.layer);
  return out;
}

Json layer_json(const Analysis& analysis, const LayerAnalysis& layer) {
  Json out = {{"layer", layer.layer}};
  put_values(out, analysis, layer_figures(), layer.values, layer.layer);
  out["residual_position"] = layer.residual_position;
  out["residual_feature"] = layer.residual_feature;
  return out;
}

Json curve_json(const std::vector<double>& values) {
  Json out = Json::array();
  for (const double value : values) out.push_back(rounded(value, kCurveDigits));
  return out;
}

Json curves_json(const HeadCurves& head) {
  Json out = {{"layer", head.layer}, {"head", head.head}};
  const auto put = [&](const char* key, const std::vector<double>& values) {
    if (!values.empty()) out[key] = curve_json(values);
  };
  put("attention", head.attention);
  put("value_norm", head.value_norm);
  put("gate", head.gate);
  put("value_gradient", head.value_gradient);
  put("gate_gradient", head.gate_gradient);
  if (head.map.empty()) return out;
  out["map"] = Json::array();
  for (const auto& row : head.map) out["map"].push_back(curve_json(row));
  return out;
}

// Numbers of tokens a sequence: by position, by lifetime and first block, by block and position.
Json places_json(const Analysis& analysis) {
  const auto mean = [&](std::vector<double> sums) {
    for (double& sum : sums) sum /= double(analysis.sequences);
    return curve_json(sums);
  };
  const SinkPlaces& places = analysis.totals.places;
  Json out = {{"positions", mean(places.secondary)},
              {"primary_like_positions", mean(places.primary_like)},
              {"blocks", mean(places.lifetimes)},
              {"first_block", mean(places.starts)}};
  for (const std::vector<double>& of_block : places.like_first) out["like_first"].push_back(mean(of_block));
  return out;
}

template <class Figures>
void name_tensors(Json& out, const Analysis& analysis, const Figures& figures) {
  for (const auto& figure : figures)
    if (analysis.has(figure.needs)) out[figure.key] = figure.tensor;
}

// For those who compare and draw, which know no figure by name.
void describe(Json& out, const Analysis& analysis) {
  for (const ModelFigure& figure : model_figures()) {
    if (!figure.compared.is_shown() || !analysis.has(figure.needs)) continue;
    const auto& of_heads = head_figures();
    const bool is_of_heads = std::any_of(of_heads.begin(), of_heads.end(), [&](const HeadFigure& one) {
      return figure.key == std::string_view(one.key);
    });
    out.push_back({{"key", figure.key},
                   {"group", figure.compared.group},
                   {"title", figure.compared.title},
                   {"meaning", figure.meaning},
                   {"of_heads", is_of_heads}});
  }
}

}  // namespace

double HeadAnalysis::operator[](std::string_view key) const { return value_of(head_figures(), values, key); }
double LayerAnalysis::operator[](std::string_view key) const { return value_of(layer_figures(), values, key); }
double Analysis::operator[](std::string_view key) const { return value_of(model_figures(), values, key); }

double mean_of_heads(const Analysis& analysis, std::string_view key) {
  const auto& figures = head_figures();
  const auto figure = std::find_if(figures.begin(), figures.end(), [&](const auto& one) { return one.key == key; });
  check(figure != figures.end(), "a mean of a figure that heads do not have");
  Mean mean;
  for (const HeadAnalysis& head : analysis.heads) {
    const double value = head.values[size_t(figure - figures.begin())];
    if (analysis.has(figure->needs, head.layer) && !(head.without_rows && std::isnan(value))) mean.add(value);
  }
  return mean_of_some(mean);
}

bool Analysis::has(Needs needs) const {
  return std::any_of(there.begin(), there.end(), [&](Needs layer) { return holds(layer, needs); });
}

std::vector<int64_t> Analysis::layers_without(Needs needs) const {
  std::vector<int64_t> out;
  for (size_t layer = 0; layer < there.size(); ++layer)
    if (!has(needs, int64_t(layer))) out.push_back(int64_t(layer));
  return out;
}

std::vector<int64_t> Analysis::layers_without_mass() const {
  std::vector<int64_t> out;
  for (size_t layer = 0; layer < there.size(); ++layer)
    if (has(Needs::kWeights, int64_t(layer)) && !has(Needs::kMass, int64_t(layer))) out.push_back(int64_t(layer));
  return out;
}

int64_t Analysis::heads_without_rows() const {
  return std::count_if(heads.begin(), heads.end(), [](const HeadAnalysis& head) { return head.without_rows; });
}

Json Analysis::json() const {
  Json out = {{"step", step},
              {"attention", attention},
              {"data", data},
              {"sequences", sequences},
              {"length", length},
              {"precision", precision},
              {"weights_are_shares", normalised}};
  if (!changes.empty()) out["attention_parts"] = changes;
  if (registers > 0) out["registers"] = registers;
  const auto put_layers = [&](const char* key, const std::vector<int64_t>& layers) {
    if (!layers.empty()) out[key] = layers;
  };
  if (heads_without_rows() > 0) out["heads_without_rows"] = heads_without_rows();
  put_layers("layers_without_weights", layers_without(Needs::kWeights));
  put_layers("layers_without_heads", layers_without(Needs::kHeads));
  out["summary"] = {};
  put_values(out["summary"], *this, model_figures(), values);
  if (has(Needs::kWeights)) out["sink_rates"] = sinks_json(sinks);
  for (const LayerAnalysis& layer : layers) out["layers"].push_back(layer_json(*this, layer));
  out["heads"] = Json::array();
  for (const HeadAnalysis& head : heads) out["heads"].push_back(head_json(*this, head));
  Json& tensors = out["tensors"];
  name_tensors(tensors["summary"], *this, model_figures());
  name_tensors(tensors["layers"], *this, layer_figures());
  name_tensors(tensors["heads"], *this, head_figures());
  describe(out["figures"], *this);
  for (const auto& norms : residual_norm) out["residual_norm"].push_back(curve_json(norms));
  out["secondary_sinks"] = places_json(*this);
  out["curves"] = Json::array();
  for (const HeadCurves& head : curves) out["curves"].push_back(curves_json(head));
  return out;
}

std::vector<Json> Analysis::lines() const {
  std::vector<Json> out;
  Json whole = {{"kind", "analysis"}, {"step", step}};
  put_values(whole, *this, model_figures(), values);
  if (has(Needs::kWeights)) whole["sink_rates"] = sinks_json(sinks);
  out.push_back(std::move(whole));
  for (const LayerAnalysis& layer : layers) {
    Json line = {{"kind", "analysis_layer"}, {"step", step}};
    line.update(layer_json(*this, layer));
    out.push_back(std::move(line));
  }
  for (const HeadAnalysis& head : heads) {
    Json line = {{"kind", "analysis_head"}, {"step", step}};
    line.update(head_json(*this, head));
    out.push_back(std::move(line));
  }
  return out;
}

namespace {

std::string needs_text(Needs needs) {
  std::string text;
  const auto add = [&](Needs one, const char* what) {
    if (holds(needs, one)) text += (text.empty() ? "" : ", ") + std::string(what);
  };
  add(Needs::kHeads, "heads");
  add(Needs::kWeights, "weights");
  add(Needs::kMass, "weights that are not negative");
  add(Needs::kGate, "a gate");
  add(Needs::kBiasKey, "a bias key");
  add(Needs::kGradient, "gradients");
  add(Needs::kGatePath, "a gate that reads values, gradients");
  return text;
}

template <class Figures>
std::string reference_table(const char* of, const Figures& figures) {
  std::string text = fmt::format("## Of {}\n\n| Key | Measured on | What it is | Needs |\n|---|---|---|---|\n", of);
  for (const auto& figure : figures)
    text +=
        fmt::format("| `{}` | {} | {} | {} |\n", figure.key, figure.tensor, figure.meaning, needs_text(figure.needs));
  return text;
}

}  // namespace

std::string figures_reference() {
  return reference_table("the model", model_figures()) + "\n" + reference_table("each layer", layer_figures()) + "\n" +
         reference_table("each head", head_figures());
}

std::filesystem::path save_analysis(const Analysis& analysis, const std::filesystem::path& run) {
  const std::filesystem::path file = run / "analysis" / fmt::format("step_{:08}.json", analysis.step);
  create_folders(file.parent_path());
  write_file_atomic(file, analysis.json().dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  return file;
}

}  // namespace sluice
