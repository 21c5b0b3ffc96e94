// From sums to figures: the definitions of docs/analysis.md.
#include <algorithm>
#include <cmath>
#include <functional>

#include "measure/analyzer_sums.h"

namespace sluice {
namespace {

std::vector<double> divided(std::vector<double> sums, double by) {
  for (double& x : sums) x /= by;
  return sums;
}

// The mean of a figure over layers.
template <class Figures>
double mean_of(const std::vector<Figures>& all, double Figures::*member) {
  Mean mean;
  for (const Figures& one : all) mean.add(one.*member);
  return mean.value();
}

template <class Figures>
double largest_of(const std::vector<Figures>& all, double Figures::*member) {
  double out = all.front().*member;
  for (const Figures& one : all) {
    if (std::isnan(one.*member)) return kNoNumber;
    out = std::max(out, one.*member);
  }
  return out;
}

// The mean of figure(head) over the heads that have it.
template <class Figure>
double mean_over_heads(const Analysis& analysis, Needs needs, Figure figure) {
  Mean mean;
  for (const HeadFigures& head : analysis.heads)
    if (analysis.has(needs, head.layer)) mean.add(figure(head));
  return mean.value();
}

double mean_over_heads(const Analysis& analysis, double HeadFigures::*member) {
  const auto& fields = head_fields();
  const auto field = std::find_if(fields.begin(), fields.end(), [&](const auto& one) { return one.member == member; });
  return mean_over_heads(analysis, field->needs, [&](const HeadFigures& head) { return head.*member; });
}

}  // namespace

Needs Analyzer::there(int64_t layer) const {
  const AttentionLayer& attention = this->attention(layer);
  const WeightsView* weights = attention.weights();
  Needs out = Needs::kNothing;
  const auto has = [&](bool present, Needs what) {
    if (present) out = out | what;
  };
  has(weights, Needs::kWeights);
  has(weights && weights->has_bias_key(), Needs::kBiasKey);
  has(attention.opener(), Needs::kGate);
  has(options_.gradients, Needs::kGradient);
  has(options_.gradients && attention.reads_values(), Needs::kGatePath);
  return out;
}

Analysis Analyzer::result(int64_t step) const {
  Analysis out;
  out.step = step;
  out.attention = model_.config().attention.name();
  out.data = source_.describe();
  out.precision = model_.act() == DType::kBF16 ? "bf16" : model_.act() == DType::kF32 ? "fp32" : "fp64";
  out.sequences = sequences_;
  out.length = T_;
  out.has_gradients = options_.gradients;
  for (int64_t layer = 0; layer < L_; ++layer) {
    out.there.push_back(there(layer));
    const WeightsView* weights = attention(layer).weights();
    if (weights && !weights->normalised()) out.normalised = false;
    out.layers.push_back(layer_figures(layer));
    for (int64_t h = 0; h < H_; ++h) {
      out.heads.push_back(head_figures(layer, h));
      out.curves.push_back(head_curves(layer, h));
    }
  }
  for (const auto& sums : residual_norm_) out.residual_norm.push_back(divided(sums, double(sequences_)));
  out.model = model_figures(out);
  return out;
}

std::vector<SinkRates> Analyzer::sink_rates(const std::vector<const HeadSums*>& heads) const {
  const double all = double(sequences_) * double(heads.size());
  std::vector<SinkRates> out;
  for (size_t e = 0; e < options_.thresholds.size(); ++e) {
    std::vector<int64_t> counts(size_t(sink_candidates(T_)));
    int64_t any = 0;
    if (std::any_of(heads.begin(), heads.end(), [](const HeadSums* sums) { return sums->undefined; })) {
      out.emplace_back().threshold = options_.thresholds[e];
      continue;
    }
    for (const HeadSums* sums : heads) {
      std::transform(counts.begin(), counts.end(), sums->sinks[e].begin(), counts.begin(), std::plus<>());
      any += sums->any[e];
    }
    const auto most = std::max_element(counts.begin(), counts.end());
    out.push_back({options_.thresholds[e], double(counts[0]) / all, double(*most) / all, most - counts.begin(),
                   double(any) / all});
  }
  return out;
}

HeadFigures Analyzer::head_figures(int64_t layer, int64_t h) const {
  const HeadSums& sums = head(layer, h);
  const double sequences = double(sequences_);
  HeadFigures out;
  out.layer = layer;
  out.head = h;
  out.sinks = sink_rates({&sums});
  out.sink_rate = out.sinks.back().first;
  out.first_token_share = sums.share[0] / sequences;
  out.largest_share = sums.largest_share.value();
  out.bias_share = sums.bias_share.value();
  out.row_mass = sums.row_mass.value();
  out.entropy = sums.entropy.value();
  out.relative_entropy = sums.relative_entropy.value();
  out.value_norm_first = sums.value.sink.value();
  out.value_norm_rest = sums.value.rest.value();
  out.value_norm_ratio = sums.value.ratio();
  out.value_norm_ratio_largest = sums.value_largest.ratio();
  out.gate_mean = sums.gate.value();
  out.gate_closed_share = sums.gate_closed.value();
  out.gate_first = sums.gate_first.value();
  out.gate_largest = sums.gate_largest.value();

  // A value that several query heads share receives the attention of all of them.
  const int64_t group = H_ / attention(layer).sizes().H_kv;
  SinkAndRest mass;
  for (int64_t t = 0; t < T_; ++t) {
    double received = 0;
    for (int64_t other = h / group * group; other < (h / group + 1) * group; ++other)
      received += head(layer, other).mass[size_t(t)] / sequences;
    mass.add(t == 0, received);
  }
  out.attention_mass_first = mass.sink.value();
  out.attention_mass_rest = mass.rest.value();
  out.attention_mass_ratio = mass.ratio();
  out.value_gradient_first = sums.gradient.sink.value();
  out.value_gradient_rest = sums.gradient.rest.value();
  out.value_gradient_ratio = sums.gradient.ratio();
  out.value_gradient_ratio_largest = sums.gradient_largest.ratio();
  out.value_gradient_per_mass = out.value_gradient_ratio / out.attention_mass_ratio;
  out.value_gradient_radial_first = sums.radial.sink.value();
  out.value_gradient_radial_rest = sums.radial.rest.value();
  out.content_gradient_first = sums.content.sink.value();
  out.content_gradient_rest = sums.content.rest.value();
  out.content_gradient_ratio = sums.content.ratio();
  out.gate_gradient_first = sums.gate_path.sink.value();
  out.gate_gradient_rest = sums.gate_path.rest.value();
  out.gate_gradient_ratio = sums.gate_path.ratio();
  out.metered = metered(layer, h);
  return out;
}

std::vector<double> Analyzer::metered(int64_t layer, int64_t h) const {
  std::vector<double> out;
  for (const auto& meter : meters_[size_t(layer * H_ + h)]) out.push_back(meter->value());
  return out;
}

LayerFigures Analyzer::layer_figures(int64_t layer) const {
  const LayerSums& sums = layers_[size_t(layer)];
  LayerFigures out;
  out.layer = layer;
  out.output_infinity_norm = sums.output_norm.value();
  out.output_kurtosis = sums.output_kurtosis.value();
  out.residual_infinity_norm = sums.residual_infinity.value();
  out.residual_kurtosis = sums.residual_kurtosis.value();
  out.residual_largest = sums.largest;
  out.residual_over_median = sums.over_median.value();
  out.residual_position = sums.position;
  out.residual_feature = sums.feature;
  out.residual_norm_first = sums.residual.sink.value();
  out.residual_norm_rest = sums.residual.rest.value();
  return out;
}

ModelFigures Analyzer::model_figures(const Analysis& analysis) const {
  const auto over_heads = [&](double HeadFigures::*member) { return mean_over_heads(analysis, member); };
  const auto over_layers = [&](double LayerFigures::*member) { return mean_of(analysis.layers, member); };
  std::vector<const HeadSums*> all;  // those that have weights
  for (int64_t layer = 0; layer < L_; ++layer)
    for (int64_t h = 0; h < H_ && analysis.has(Needs::kWeights, layer); ++h) all.push_back(&head(layer, h));
  ModelFigures out;
  out.loss = loss_ / double(sequences_);
  out.perplexity = std::exp(out.loss);
  out.sinks = sink_rates(all);
  out.sink_rate = out.sinks.back().first;
  out.sink_rate_largest = out.sinks.back().largest;
  out.sink_rate_any = out.sinks.back().any;
  out.first_token_share = over_heads(&HeadFigures::first_token_share);
  out.bias_share = over_heads(&HeadFigures::bias_share);
  out.entropy = over_heads(&HeadFigures::entropy);
  out.relative_entropy = over_heads(&HeadFigures::relative_entropy);
  out.value_norm_ratio = over_heads(&HeadFigures::value_norm_ratio);
  out.value_norm_ratio_least = analysis.heads.front().value_norm_ratio;
  for (const HeadFigures& one : analysis.heads)
    out.value_norm_ratio_least = std::min(out.value_norm_ratio_least, one.value_norm_ratio);
  if (std::isnan(out.value_norm_ratio)) out.value_norm_ratio_least = kNoNumber;
  out.value_norm_ratio_largest = over_heads(&HeadFigures::value_norm_ratio_largest);
  out.infinity_norm = largest_of(analysis.layers, &LayerFigures::output_infinity_norm);
  out.kurtosis = over_layers(&LayerFigures::output_kurtosis);
  out.residual_infinity_norm = largest_of(analysis.layers, &LayerFigures::residual_infinity_norm);
  out.residual_kurtosis = over_layers(&LayerFigures::residual_kurtosis);
  out.massive_activation = over_layers(&LayerFigures::residual_largest);
  out.massive_over_median = largest_of(analysis.layers, &LayerFigures::residual_over_median);
  out.gate_mean = over_heads(&HeadFigures::gate_mean);
  out.gate_closed_share = over_heads(&HeadFigures::gate_closed_share);
  out.gate_first = over_heads(&HeadFigures::gate_first);
  out.attention_mass_ratio = over_heads(&HeadFigures::attention_mass_ratio);
  out.value_gradient_ratio = over_heads(&HeadFigures::value_gradient_ratio);
  out.value_gradient_per_mass = over_heads(&HeadFigures::value_gradient_per_mass);
  out.content_gradient_ratio = over_heads(&HeadFigures::content_gradient_ratio);
  out.gate_gradient_ratio = over_heads(&HeadFigures::gate_gradient_ratio);
  for (size_t i = 0; i < metered_figures().size(); ++i)
    out.metered.push_back(mean_over_heads(analysis, metered_figures()[i].needs,
                                          [&](const HeadFigures& head) { return head.metered[i]; }));
  return out;
}

HeadCurves Analyzer::head_curves(int64_t layer, int64_t h) const {
  const HeadSums& sums = head(layer, h);
  const double sequences = double(sequences_);
  const Needs has = there(layer);
  HeadCurves out;
  out.layer = layer;
  out.head = h;
  if (holds(has, Needs::kWeights)) out.attention = divided(sums.share, sequences);
  out.value_norm = divided(sums.value_norm, sequences);
  if (holds(has, Needs::kGate)) out.gate = divided(sums.gate_curve, sequences);
  if (options_.gradients) out.value_gradient = divided(sums.gradient_curve, sequences);
  if (holds(has, Needs::kGatePath)) out.gate_gradient = divided(sums.gate_gradient_curve, sequences);
  const int64_t P = holds(has, Needs::kWeights) ? std::min(options_.map_positions, T_) : 0;
  for (int64_t i = 0; i < P; ++i) {
    const auto row = sums.map.begin() + i * P;
    out.map.push_back(divided({row, row + i + 1}, sequences));
  }
  return out;
}

}  // namespace sluice
