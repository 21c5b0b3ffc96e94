// The lists of figures, and analyses as JSON: whole files and lines of metrics (analysis.h).
#include "measure/analysis.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/files/files.h"
#include "base/number_text.h"

namespace sluice {
namespace {

constexpr int kCurveDigits = 4;

// nlohmann writes NaN as null.
template <class Figures, class... Layer>
void put_fields(Json& out, const Analysis& analysis, const std::vector<FigureField<Figures>>& fields,
                const Figures& from, Layer... layer) {
  for (const auto& field : fields)
    if (analysis.has(field.needs, layer...)) out[field.key] = from.*field.member;
}

template <class Figures, class... Layer>
void put_metered(Json& out, const Analysis& analysis, const Figures& from, Layer... layer) {
  const auto& figures = metered_figures();
  for (size_t i = 0; i < from.metered.size(); ++i)
    if (analysis.has(figures[i].needs, layer...)) out[figures[i].key] = from.metered[i];
}

// "0.3": the shortest text that reads back as the number.
std::string threshold_key(double threshold) { return Json(threshold).dump(); }

Json sinks_json(const std::vector<SinkRates>& sinks) {
  Json out = Json::object();
  for (const SinkRates& rate : sinks)
    out[threshold_key(rate.threshold)] = {
        {"first", rate.first}, {"largest", rate.largest}, {"position", rate.position}, {"any", rate.any}};
  return out;
}

Json head_json(const Analysis& analysis, const HeadFigures& head) {
  Json out = {{"layer", head.layer}, {"head", head.head}};
  if (analysis.has(Needs::kWeights, head.layer)) out["sink_rates"] = sinks_json(head.sinks);
  put_fields(out, analysis, head_fields(), head, head.layer);
  put_metered(out, analysis, head, head.layer);
  return out;
}

Json layer_json(const Analysis& analysis, const LayerFigures& layer) {
  Json out = {{"layer", layer.layer}};
  put_fields(out, analysis, layer_fields(), layer, layer.layer);
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

template <class Figures>
void name_tensors(Json& out, const Analysis& analysis, const std::vector<FigureField<Figures>>& fields) {
  for (const auto& field : fields)
    if (analysis.has(field.needs)) out[field.key] = field.tensor;
}

}  // namespace

const std::vector<FigureField<HeadFigures>>& head_fields() {
  using enum Needs;
  using F = HeadFigures;
  static const char *const kOfWeights = "attention weights a", *const kOfValues = "values v, before any gate";
  static const char *const kOfGate = "gate g", *const kOfGradient =
                                                   "dL/dv, v before any gate; L the sequence's mean loss";
  static const std::vector<FigureField<F>> fields = {
      {"sink_rate", &F::sink_rate, kWeights, kOfWeights,
       "share of sequences with a sink on the first position, at the largest threshold"},
      {"first_token_share", &F::first_token_share, kWeights, kOfWeights,
       "mean over rows of the share on the first position"},
      {"largest_share", &F::largest_share, kWeights, kOfWeights,
       "mean of each sequence's largest share on one position"},
      {"bias_share", &F::bias_share, kBiasKey, kOfWeights, "mean over rows of the share on the bias key"},
      {"row_mass", &F::row_mass, kWeights, kOfWeights, "mean over rows of the sum of the weights on the tokens"},
      {"entropy", &F::entropy, kWeights, kOfWeights, "mean entropy of the rows, in nats"},
      {"relative_entropy", &F::relative_entropy, kWeights, kOfWeights, "mean of entropy / log of the row's length"},
      {"value_norm_first", &F::value_norm_first, kNothing, kOfValues, "mean norm at the first position"},
      {"value_norm_rest", &F::value_norm_rest, kNothing, kOfValues, "mean norm at the others"},
      {"value_norm_ratio", &F::value_norm_ratio, kNothing, kOfValues, "first / rest"},
      {"value_norm_ratio_largest", &F::value_norm_ratio_largest, kWeights, kOfValues,
       "mean norm at each sequence's largest sink / mean elsewhere"},
      {"gate_mean", &F::gate_mean, kGate, kOfGate, "mean opening"},
      {"gate_closed_share", &F::gate_closed_share, kGate, kOfGate, "share of openings below 0.1"},
      {"gate_first", &F::gate_first, kGate, kOfGate, "mean opening at the first position"},
      {"gate_largest", &F::gate_largest, kGate | kWeights, kOfGate, "mean opening at each sequence's largest sink"},
      {"attention_mass_first", &F::attention_mass_first, kWeights, kOfWeights,
       "mean sum over rows of the weight on the first position"},
      {"attention_mass_rest", &F::attention_mass_rest, kWeights, kOfWeights, "the same, mean of the other positions"},
      {"attention_mass_ratio", &F::attention_mass_ratio, kWeights, kOfWeights, "first / rest"},
      {"value_gradient_first", &F::value_gradient_first, kGradient, kOfGradient, "mean norm at the first position"},
      {"value_gradient_rest", &F::value_gradient_rest, kGradient, kOfGradient, "mean norm at the others"},
      {"value_gradient_ratio", &F::value_gradient_ratio, kGradient, kOfGradient, "first / rest"},
      {"value_gradient_ratio_largest", &F::value_gradient_ratio_largest, kGradient | kWeights, kOfGradient,
       "mean norm at each sequence's largest sink / mean elsewhere"},
      {"value_gradient_per_mass", &F::value_gradient_per_mass, kGradient | kWeights, kOfGradient,
       "value_gradient_ratio / attention_mass_ratio"},
      {"value_gradient_radial_first", &F::value_gradient_radial_first, kGradient, kOfGradient,
       "mean of dL/dv . v / |v| at the first position: above 0, descent shortens the value"},
      {"value_gradient_radial_rest", &F::value_gradient_radial_rest, kGradient, kOfGradient, "the same at the others"},
      {"content_gradient_first", &F::content_gradient_first, kGatePath, kOfGradient,
       "mean norm at the first position of the part that comes through the attended values"},
      {"content_gradient_rest", &F::content_gradient_rest, kGatePath, kOfGradient, "the same at the others"},
      {"content_gradient_ratio", &F::content_gradient_ratio, kGatePath, kOfGradient, "first / rest"},
      {"gate_gradient_first", &F::gate_gradient_first, kGatePath, kOfGradient,
       "mean norm at the first position of the part that comes through the gate"},
      {"gate_gradient_rest", &F::gate_gradient_rest, kGatePath, kOfGradient, "the same at the others"},
      {"gate_gradient_ratio", &F::gate_gradient_ratio, kGatePath, kOfGradient, "first / rest"},
  };
  return fields;
}

const std::vector<FigureField<LayerFigures>>& layer_fields() {
  using enum Needs;
  using F = LayerFigures;
  static const char *const kOfOutput = "attention's output, after the output projection", *const kOfResidual =
                                                                                              "the block's output";
  static const std::vector<FigureField<F>> fields = {
      {"output_infinity_norm", &F::output_infinity_norm, kNothing, kOfOutput, "mean over sequences of the largest |x|"},
      {"output_kurtosis", &F::output_kurtosis, kNothing, kOfOutput,
       "mean over sequences of the kurtosis of all elements"},
      {"residual_infinity_norm", &F::residual_infinity_norm, kNothing, kOfResidual,
       "mean over sequences of the largest |x|"},
      {"residual_kurtosis", &F::residual_kurtosis, kNothing, kOfResidual,
       "mean over sequences of the kurtosis of all elements"},
      {"residual_largest", &F::residual_largest, kNothing, kOfResidual, "the largest |x| of all sequences"},
      {"residual_over_median", &F::residual_over_median, kNothing, kOfResidual,
       "mean over sequences of the largest |x| / the median |x|"},
      {"residual_norm_first", &F::residual_norm_first, kNothing, kOfResidual, "mean norm at the first position"},
      {"residual_norm_rest", &F::residual_norm_rest, kNothing, kOfResidual, "mean norm at the others"},
  };
  return fields;
}

const std::vector<FigureField<ModelFigures>>& model_fields() {
  using enum Needs;
  using F = ModelFigures;
  static const char *const kOfWeights = "attention weights a", *const kOfValues = "values v, before any gate";
  static const char *const kOfOutput = "attention's output, after the output projection", *const kOfResidual =
                                                                                              "the block's output";
  static const char *const kOfGate = "gate g", *const kOfGradient = "dL/dv, v before any gate";
  static const std::vector<FigureField<F>> fields = {
      {"loss", &F::loss, kNothing, "logits", "mean cross-entropy of these sequences, in nats"},
      {"perplexity", &F::perplexity, kNothing, "logits", "e^loss"},
      {"sink_rate", &F::sink_rate, kWeights, kOfWeights,
       "share of heads and sequences with a sink on the first position, at the largest threshold"},
      {"sink_rate_largest", &F::sink_rate_largest, kWeights, kOfWeights,
       "the same on the position where it is largest"},
      {"sink_rate_any", &F::sink_rate_any, kWeights, kOfWeights, "the same on any position"},
      {"first_token_share", &F::first_token_share, kWeights, kOfWeights, "mean over layers and heads"},
      {"bias_share", &F::bias_share, kBiasKey, kOfWeights, "mean over layers and heads"},
      {"entropy", &F::entropy, kWeights, kOfWeights, "mean over layers and heads, in nats"},
      {"relative_entropy", &F::relative_entropy, kWeights, kOfWeights, "mean over layers and heads"},
      {"value_norm_ratio", &F::value_norm_ratio, kNothing, kOfValues, "mean over layers and heads"},
      {"value_norm_ratio_least", &F::value_norm_ratio_least, kNothing, kOfValues, "the least of all heads"},
      {"value_norm_ratio_largest", &F::value_norm_ratio_largest, kWeights, kOfValues,
       "at the largest sinks; mean over layers and heads"},
      {"infinity_norm", &F::infinity_norm, kNothing, kOfOutput, "the largest layer's"},
      {"kurtosis", &F::kurtosis, kNothing, kOfOutput, "mean over layers"},
      {"residual_infinity_norm", &F::residual_infinity_norm, kNothing, kOfResidual, "the largest layer's"},
      {"residual_kurtosis", &F::residual_kurtosis, kNothing, kOfResidual, "mean over layers"},
      {"massive_activation", &F::massive_activation, kNothing, kOfResidual, "mean over layers of the largest |x|"},
      {"massive_over_median", &F::massive_over_median, kNothing, kOfResidual,
       "the largest layer's ratio of the largest |x| to the median |x|"},
      {"gate_mean", &F::gate_mean, kGate, kOfGate, "mean over layers and heads"},
      {"gate_closed_share", &F::gate_closed_share, kGate, kOfGate, "mean over layers and heads"},
      {"gate_first", &F::gate_first, kGate, kOfGate, "mean over layers and heads"},
      {"attention_mass_ratio", &F::attention_mass_ratio, kWeights, kOfWeights, "mean over layers and heads"},
      {"value_gradient_ratio", &F::value_gradient_ratio, kGradient, kOfGradient, "mean over layers and heads"},
      {"value_gradient_per_mass", &F::value_gradient_per_mass, kGradient | kWeights, kOfGradient,
       "mean over layers and heads"},
      {"content_gradient_ratio", &F::content_gradient_ratio, kGatePath, kOfGradient, "mean over layers and heads"},
      {"gate_gradient_ratio", &F::gate_gradient_ratio, kGatePath, kOfGradient, "mean over layers and heads"},
  };
  return fields;
}

bool Analysis::has(Needs needs) const {
  return std::any_of(there.begin(), there.end(), [&](Needs layer) { return holds(layer, needs); });
}

std::vector<int64_t> Analysis::layers_without_weights() const {
  std::vector<int64_t> out;
  for (size_t layer = 0; layer < there.size(); ++layer)
    if (!has(Needs::kWeights, int64_t(layer))) out.push_back(int64_t(layer));
  return out;
}

Json Analysis::json() const {
  Json out = {{"step", step},
              {"attention", attention},
              {"data", data},
              {"sequences", sequences},
              {"length", length},
              {"precision", precision},
              {"weights_are_shares", normalised}};
  if (!layers_without_weights().empty()) out["layers_without_weights"] = layers_without_weights();
  out["summary"] = {};
  put_fields(out["summary"], *this, model_fields(), model);
  put_metered(out["summary"], *this, model);
  if (has(Needs::kWeights)) out["sink_rates"] = sinks_json(model.sinks);
  for (const LayerFigures& layer : layers) out["layers"].push_back(layer_json(*this, layer));
  for (const HeadFigures& head : heads) out["heads"].push_back(head_json(*this, head));
  Json& tensors = out["tensors"];
  name_tensors(tensors["summary"], *this, model_fields());
  name_tensors(tensors["layers"], *this, layer_fields());
  name_tensors(tensors["heads"], *this, head_fields());
  for (const MeteredFigure& figure : metered_figures()) {
    if (!has(figure.needs)) continue;
    for (const char* place : {"summary", "heads"}) tensors[place][figure.key] = figure.tensor;
    // For those who compare and draw, which know no figure of these by name.
    out["figures"].push_back(
        {{"key", figure.key}, {"group", figure.group}, {"title", figure.title}, {"meaning", figure.meaning}});
  }
  for (const auto& norms : residual_norm) out["residual_norm"].push_back(curve_json(norms));
  for (const HeadCurves& head : curves) out["curves"].push_back(curves_json(head));
  return out;
}

std::vector<Json> Analysis::lines() const {
  std::vector<Json> out;
  Json whole = {{"kind", "analysis"}, {"step", step}};
  put_fields(whole, *this, model_fields(), model);
  put_metered(whole, *this, model);
  if (has(Needs::kWeights)) whole["sink_rates"] = sinks_json(model.sinks);
  out.push_back(std::move(whole));
  for (const LayerFigures& layer : layers) {
    Json line = {{"kind", "analysis_layer"}, {"step", step}};
    line.update(layer_json(*this, layer));
    out.push_back(std::move(line));
  }
  for (const HeadFigures& head : heads) {
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
  add(Needs::kWeights, "weights");
  add(Needs::kGate, "a gate");
  add(Needs::kBiasKey, "a bias key");
  add(Needs::kGradient, "gradients");
  add(Needs::kGatePath, "a gate that reads values, gradients");
  return text;
}

std::string reference_row(const char* key, const char* tensor, const std::string& meaning, Needs needs) {
  return fmt::format("| `{}` | {} | {} | {} |\n", key, tensor, meaning, needs_text(needs));
}

template <class Figures>
std::string reference_rows(const std::vector<FigureField<Figures>>& fields) {
  std::string text;
  for (const auto& field : fields) text += reference_row(field.key, field.tensor, field.meaning, field.needs);
  return text;
}

}  // namespace

std::string figures_reference() {
  const std::string head = "\n\n| Key | Measured on | What it is | Needs |\n|---|---|---|---|\n";
  std::string of_heads, of_models;
  for (const MeteredFigure& figure : metered_figures()) {
    of_heads += reference_row(figure.key, figure.tensor, figure.meaning, figure.needs);
    of_models += reference_row(figure.key, figure.tensor, "mean over layers and heads", figure.needs);
  }
  return "## Of the model" + head + reference_rows(model_fields()) + of_models + "\n## Of each layer" + head +
         reference_rows(layer_fields()) + "\n## Of each head" + head + reference_rows(head_fields()) + of_heads;
}

std::filesystem::path save_analysis(const Analysis& analysis, const std::filesystem::path& run) {
  const std::filesystem::path file = run / "analysis" / fmt::format("step_{:08}.json", analysis.step);
  create_folders(file.parent_path());
  write_file_atomic(file, analysis.json().dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  return file;
}

}  // namespace sluice
