// From what was added up to an analysis.
#include <algorithm>
#include <functional>
#include <numeric>

#include "measure/analyzer.h"

namespace sluice {
namespace {

std::vector<double> divided(std::vector<double> sums, double by) {
  for (double& x : sums) x /= by;
  return sums;
}

}  // namespace

Needs Analyzer::there(int64_t layer) const {
  Needs out = Needs::kNothing;
  const auto has = [&](bool present, Needs what) {
    if (present) out = out | what;
  };
  has(options_.gradients, Needs::kGradient);
  has(registers_ > 0, Needs::kRegisters);
  if (!has_heads(layer)) return out;
  const AttentionLayer& attention = this->attention(layer);
  const WeightsView* weights = attention.weights();
  has(true, Needs::kHeads);
  has(weights, Needs::kWeights);
  has(weights && weights->has_bias_key(), Needs::kBiasKey);
  has(weights && !weights->may_be_negative(), Needs::kMass);
  has(attention.opener(), Needs::kGate);
  has(options_.gradients && attention.reads_values(), Needs::kGatePath);
  return out;
}

Analysis Analyzer::result(int64_t step) {
  finish_totals();
  Analysis out;
  out.step = step;
  out.attention = model_.config().attention.name();
  out.changes = model_.config().attention.changes();
  out.data = source_.describe();
  out.precision = model_.act() == DType::kBF16 ? "bf16" : model_.act() == DType::kF32 ? "fp32" : "fp64";
  out.sequences = sequences_;
  out.length = T_ - registers_;
  out.registers = registers_;
  out.has_gradients = options_.gradients;
  out.loss = loss_ / double(sequences_);
  std::vector<const HeadTotals*> weighing;
  for (int64_t layer = 0; layer < L_; ++layer) {
    out.there.push_back(there(layer));
    out.layers.push_back(layer_analysis(layer));
    if (!has_heads(layer)) continue;
    const WeightsView* weights = attention(layer).weights();
    if (weights && !weights->normalised()) out.normalised = false;
    for (int64_t h = 0; h < H_; ++h) {
      out.heads.push_back(head_analysis(layer, h));
      out.curves.push_back(head_curves(layer, h));
      if (weights) weighing.push_back(&head(layer, h));
    }
  }
  out.sinks = sink_rates(weighing);
  out.totals = totals_;
  for (const auto& sums : residual_norm_) out.residual_norm.push_back(divided(sums, double(sequences_)));
  for (const ModelFigure& figure : model_figures()) out.values.push_back(figure.value(out));
  return out;
}

void Analyzer::finish_totals() {
  for (int64_t layer = 0; layer < L_; ++layer) {
    if (!has_heads(layer)) continue;
    const int64_t group = H_ / attention(layer).sizes().H_kv;
    for (int64_t h = 0; h < H_; ++h) {
      HeadTotals& totals = head(layer, h);
      totals.sequences = double(sequences_);
      totals.rates = sink_rates({&totals});
      for (int64_t t = 0; t < T_; ++t) {
        double received = 0;
        for (int64_t other = h / group * group; other < (h / group + 1) * group; ++other)
          received += head(layer, other).mass[size_t(t)] / totals.sequences;
        totals.received.add(t == 0, received);
      }
    }
  }
}

std::vector<SinkRates> Analyzer::sink_rates(const std::vector<const HeadTotals*>& heads) const {
  const double all = double(sequences_) * double(heads.size());
  std::vector<SinkRates> out;
  for (size_t e = 0; e < options_.thresholds.size(); ++e) {
    std::vector<int64_t> counts(size_t(sink_candidates(T_)));
    int64_t any = 0, later = 0;
    if (std::any_of(heads.begin(), heads.end(), [](const HeadTotals* sums) { return sums->undefined; })) {
      out.emplace_back().threshold = options_.thresholds[e];
      continue;
    }
    for (const HeadTotals* sums : heads) {
      std::transform(counts.begin(), counts.end(), sums->sinks[e].begin(), counts.begin(), std::plus<>());
      any += sums->any[e];
      later += sums->later[e];
    }
    const auto most = std::max_element(counts.begin(), counts.end());
    out.push_back({.threshold = options_.thresholds[e],
                   .first = double(counts[0]) / all,
                   .largest = double(*most) / all,
                   .position = most - counts.begin(),
                   .any = double(any) / all,
                   .later = double(later) / all,
                   .count = double(std::accumulate(counts.begin(), counts.end(), int64_t(0))) / all});
  }
  return out;
}

HeadAnalysis Analyzer::head_analysis(int64_t layer, int64_t h) const {
  const HeadTotals& totals = head(layer, h);
  HeadAnalysis out{.layer = layer,
                   .head = h,
                   .without_rows = attention(layer).weights() && !totals.has_rows,
                   .sinks = totals.rates,
                   .values = {}};
  auto meter = totals.meters.begin();
  for (const HeadFigure& figure : head_figures())
    out.values.push_back(figure.meter ? (*meter++)->value() : figure.value(totals));
  return out;
}

LayerAnalysis Analyzer::layer_analysis(int64_t layer) const {
  const LayerTotals& totals = layers_[size_t(layer)];
  LayerAnalysis out{
      .layer = layer, .residual_position = totals.position, .residual_feature = totals.feature, .values = {}};
  for (const LayerFigure& figure : layer_figures()) out.values.push_back(figure.value(totals));
  return out;
}

HeadCurves Analyzer::head_curves(int64_t layer, int64_t h) const {
  const HeadTotals& sums = head(layer, h);
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
    out.map.push_back(divided({row, row + (model_.config().causal ? i + 1 : P)}, sequences));
  }
  return out;
}

}  // namespace sluice
