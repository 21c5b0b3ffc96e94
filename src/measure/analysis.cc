#include "measure/analysis.h"

#include <cmath>

#include "base/error.h"
#include "base/files/files.h"
#include "base/number_text.h"

namespace sluice {
namespace {

constexpr int kCurveDigits = 4;

// nlohmann writes NaN as null.
template <class Figures>
void put_fields(Json& out, const Analysis& analysis, const std::vector<FigureField<Figures>>& fields, const Figures& from) {
  for (const auto& field : fields)
    if (analysis.has(field.needs)) out[field.key] = from.*field.member;
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
  Json out = {{"layer", head.layer}, {"head", head.head}, {"sink_rates", sinks_json(head.sinks)}};
  put_fields(out, analysis, head_fields(), head);
  return out;
}

Json layer_json(const Analysis& analysis, const LayerFigures& layer) {
  Json out = {{"layer", layer.layer}};
  put_fields(out, analysis, layer_fields(), layer);
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
  using F = HeadFigures;
  static const char* const kWeights = "attention weights a", *const kValues = "values v, before any gate";
  static const char* const kGate = "gate g", *const kGradient = "dL/dv, v before any gate; L the sequence's mean loss";
  static const std::vector<FigureField<F>> fields = {
      {"sink_rate", &F::sink_rate, Needs::kNothing, kWeights,
       "share of sequences with a sink on the first position, at the largest threshold"},
      {"first_token_share", &F::first_token_share, Needs::kNothing, kWeights, "mean over rows of the share on the first position"},
      {"largest_share", &F::largest_share, Needs::kNothing, kWeights, "mean of each sequence's largest share on one position"},
      {"bias_share", &F::bias_share, Needs::kBiasKey, kWeights, "mean over rows of the share on the bias key"},
      {"row_mass", &F::row_mass, Needs::kNothing, kWeights, "mean over rows of the sum of the weights on the tokens"},
      {"entropy", &F::entropy, Needs::kNothing, kWeights, "mean entropy of the rows, in nats"},
      {"relative_entropy", &F::relative_entropy, Needs::kNothing, kWeights, "mean of entropy / log of the row's length"},
      {"value_norm_first", &F::value_norm_first, Needs::kNothing, kValues, "mean norm at the first position"},
      {"value_norm_rest", &F::value_norm_rest, Needs::kNothing, kValues, "mean norm at the others"},
      {"value_norm_ratio", &F::value_norm_ratio, Needs::kNothing, kValues, "first / rest"},
      {"value_norm_ratio_largest", &F::value_norm_ratio_largest, Needs::kNothing, kValues,
       "mean norm at each sequence's largest sink / mean elsewhere"},
      {"gate_mean", &F::gate_mean, Needs::kGate, kGate, "mean opening"},
      {"gate_closed_share", &F::gate_closed_share, Needs::kGate, kGate, "share of openings below 0.1"},
      {"gate_first", &F::gate_first, Needs::kGate, kGate, "mean opening at the first position"},
      {"gate_largest", &F::gate_largest, Needs::kGate, kGate, "mean opening at each sequence's largest sink"},
      {"attention_mass_first", &F::attention_mass_first, Needs::kNothing, kWeights, "mean sum over rows of the weight on the first position"},
      {"attention_mass_rest", &F::attention_mass_rest, Needs::kNothing, kWeights, "the same, mean of the other positions"},
      {"attention_mass_ratio", &F::attention_mass_ratio, Needs::kNothing, kWeights, "first / rest"},
      {"value_gradient_first", &F::value_gradient_first, Needs::kGradient, kGradient, "mean norm at the first position"},
      {"value_gradient_rest", &F::value_gradient_rest, Needs::kGradient, kGradient, "mean norm at the others"},
      {"value_gradient_ratio", &F::value_gradient_ratio, Needs::kGradient, kGradient, "first / rest"},
      {"value_gradient_ratio_largest", &F::value_gradient_ratio_largest, Needs::kGradient, kGradient,
       "mean norm at each sequence's largest sink / mean elsewhere"},
      {"value_gradient_per_mass", &F::value_gradient_per_mass, Needs::kGradient, kGradient,
       "value_gradient_ratio / attention_mass_ratio"},
      {"value_gradient_radial_first", &F::value_gradient_radial_first, Needs::kGradient, kGradient,
       "mean of dL/dv . v / |v| at the first position: above 0, descent shortens the value"},
      {"value_gradient_radial_rest", &F::value_gradient_radial_rest, Needs::kGradient, kGradient, "the same at the others"},
      {"content_gradient_first", &F::content_gradient_first, Needs::kGatePath, kGradient,
       "mean norm at the first position of the part that comes through the attended values"},
      {"content_gradient_rest", &F::content_gradient_rest, Needs::kGatePath, kGradient, "the same at the others"},
      {"content_gradient_ratio", &F::content_gradient_ratio, Needs::kGatePath, kGradient, "first / rest"},
      {"gate_gradient_first", &F::gate_gradient_first, Needs::kGatePath, kGradient,
       "mean norm at the first position of the part that comes through the gate"},
      {"gate_gradient_rest", &F::gate_gradient_rest, Needs::kGatePath, kGradient, "the same at the others"},
      {"gate_gradient_ratio", &F::gate_gradient_ratio, Needs::kGatePath, kGradient, "first / rest"},
  };
  return fields;
}

const std::vector<FigureField<LayerFigures>>& layer_fields() {
  using F = LayerFigures;
  static const char* const kOutput = "attention's output, after the output projection", *const kResidual = "the block's output";
  static const std::vector<FigureField<F>> fields = {
      {"output_infinity_norm", &F::output_infinity_norm, Needs::kNothing, kOutput, "mean over sequences of the largest |x|"},
      {"output_kurtosis", &F::output_kurtosis, Needs::kNothing, kOutput, "mean over sequences of the kurtosis of all elements"},
      {"residual_infinity_norm", &F::residual_infinity_norm, Needs::kNothing, kResidual, "mean over sequences of the largest |x|"},
      {"residual_kurtosis", &F::residual_kurtosis, Needs::kNothing, kResidual, "mean over sequences of the kurtosis of all elements"},
      {"residual_largest", &F::residual_largest, Needs::kNothing, kResidual, "the largest |x| of all sequences"},
      {"residual_over_median", &F::residual_over_median, Needs::kNothing, kResidual,
       "mean over sequences of the largest |x| / the median |x|"},
      {"residual_norm_first", &F::residual_norm_first, Needs::kNothing, kResidual, "mean norm at the first position"},
      {"residual_norm_rest", &F::residual_norm_rest, Needs::kNothing, kResidual, "mean norm at the others"},
  };
  return fields;
}

const std::vector<FigureField<ModelFigures>>& model_fields() {
  using F = ModelFigures;
  static const char* const kWeights = "attention weights a", *const kValues = "values v, before any gate";
  static const char* const kOutput = "attention's output, after the output projection", *const kResidual = "the block's output";
  static const char* const kGate = "gate g", *const kGradient = "dL/dv, v before any gate";
  static const std::vector<FigureField<F>> fields = {
      {"loss", &F::loss, Needs::kNothing, "logits", "mean cross-entropy of these sequences, in nats"},
      {"perplexity", &F::perplexity, Needs::kNothing, "logits", "e^loss"},
      {"sink_rate", &F::sink_rate, Needs::kNothing, kWeights,
       "share of heads and sequences with a sink on the first position, at the largest threshold"},
      {"sink_rate_largest", &F::sink_rate_largest, Needs::kNothing, kWeights, "the same on the position where it is largest"},
      {"sink_rate_any", &F::sink_rate_any, Needs::kNothing, kWeights, "the same on any position"},
      {"first_token_share", &F::first_token_share, Needs::kNothing, kWeights, "mean over layers and heads"},
      {"bias_share", &F::bias_share, Needs::kBiasKey, kWeights, "mean over layers and heads"},
      {"entropy", &F::entropy, Needs::kNothing, kWeights, "mean over layers and heads, in nats"},
      {"relative_entropy", &F::relative_entropy, Needs::kNothing, kWeights, "mean over layers and heads"},
      {"value_norm_ratio", &F::value_norm_ratio, Needs::kNothing, kValues, "mean over layers and heads"},
      {"value_norm_ratio_least", &F::value_norm_ratio_least, Needs::kNothing, kValues, "the least of all heads"},
      {"value_norm_ratio_largest", &F::value_norm_ratio_largest, Needs::kNothing, kValues,
       "at the largest sinks; mean over layers and heads"},
      {"infinity_norm", &F::infinity_norm, Needs::kNothing, kOutput, "the largest layer's"},
      {"kurtosis", &F::kurtosis, Needs::kNothing, kOutput, "mean over layers"},
      {"residual_infinity_norm", &F::residual_infinity_norm, Needs::kNothing, kResidual, "the largest layer's"},
      {"residual_kurtosis", &F::residual_kurtosis, Needs::kNothing, kResidual, "mean over layers"},
      {"massive_activation", &F::massive_activation, Needs::kNothing, kResidual, "mean over layers of the largest |x|"},
      {"massive_over_median", &F::massive_over_median, Needs::kNothing, kResidual,
       "the largest layer's ratio of the largest |x| to the median |x|"},
      {"gate_mean", &F::gate_mean, Needs::kGate, kGate, "mean over layers and heads"},
      {"gate_closed_share", &F::gate_closed_share, Needs::kGate, kGate, "mean over layers and heads"},
      {"gate_first", &F::gate_first, Needs::kGate, kGate, "mean over layers and heads"},
      {"attention_mass_ratio", &F::attention_mass_ratio, Needs::kNothing, kWeights, "mean over layers and heads"},
      {"value_gradient_ratio", &F::value_gradient_ratio, Needs::kGradient, kGradient, "mean over layers and heads"},
      {"value_gradient_per_mass", &F::value_gradient_per_mass, Needs::kGradient, kGradient, "mean over layers and heads"},
      {"content_gradient_ratio", &F::content_gradient_ratio, Needs::kGatePath, kGradient, "mean over layers and heads"},
      {"gate_gradient_ratio", &F::gate_gradient_ratio, Needs::kGatePath, kGradient, "mean over layers and heads"},
  };
  return fields;
}

bool Analysis::has(Needs needs) const {
  switch (needs) {
    case Needs::kNothing: return true;
    case Needs::kGate: return has_gate;
    case Needs::kBiasKey: return has_bias_key;
    case Needs::kGradient: return has_gradients;
    case Needs::kGatePath: return has_gradients && has_gate_path;
  }
  return false;
}

Json Analysis::json() const {
  Json out = {{"step", step},           {"attention", attention}, {"data", data}, {"sequences", sequences},
              {"length", length}, {"precision", precision}, {"weights_are_shares", normalised}};
  out["summary"] = {};
  put_fields(out["summary"], *this, model_fields(), model);
  out["sink_rates"] = sinks_json(model.sinks);
  for (const LayerFigures& layer : layers) out["layers"].push_back(layer_json(*this, layer));
  for (const HeadFigures& head : heads) out["heads"].push_back(head_json(*this, head));
  Json& tensors = out["tensors"];
  name_tensors(tensors["summary"], *this, model_fields());
  name_tensors(tensors["layers"], *this, layer_fields());
  name_tensors(tensors["heads"], *this, head_fields());
  for (const auto& norms : residual_norm) out["residual_norm"].push_back(curve_json(norms));
  for (const HeadCurves& head : curves) out["curves"].push_back(curves_json(head));
  return out;
}

std::vector<Json> Analysis::lines() const {
  std::vector<Json> out;
  Json whole = {{"kind", "analysis"}, {"step", step}};
  put_fields(whole, *this, model_fields(), model);
  whole["sink_rates"] = sinks_json(model.sinks);
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

std::filesystem::path save_analysis(const Analysis& analysis, const std::filesystem::path& run) {
  const std::filesystem::path file = run / "analysis" / fmt::format("step_{:08}.json", analysis.step);
  create_folders(file.parent_path());
  write_file_atomic(file, analysis.json().dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  return file;
}

}  // namespace sluice
