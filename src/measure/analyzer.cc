#include "measure/analyzer.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "kernels/host_copy.h"
#include "measure/figures/dot.h"
#include "measure/figures/head_diversity.h"
#include "measure/shown_weights.h"

namespace sluice {
namespace {

constexpr double kClosed = 0.1;  // a gate below it counts as closed

void add_to(std::vector<double>& sums, int64_t at, double x) { sums[size_t(at)] += x; }

}  // namespace

Analyzer::Analyzer(Transformer& model, const DataSource& source, AnalysisOptions options)
    : model_(model),
      source_(source),
      options_(std::move(options)),
      sequences_(source.sequences_per_epoch() > 0 ? std::min(source.sequences_per_epoch(), options_.sequences)
                                                  : options_.sequences),
      registers_(model.config().registers),
      T_(registers_ + source.context()),
      L_(model.config().layers),
      H_(model.config().heads),
      batches_(model.max_batch()),
      secondary_(L_, T_, model.config().width) {
  check_le(int64_t{2}, T_, "an analysis needs two positions");
  check_le(T_, model.config().rows(), "an analysis of sequences longer than the context");
  check(!options_.thresholds.empty() && std::is_sorted(options_.thresholds.begin(), options_.thresholds.end()),
        "thresholds of sink rates: some, increasing");
  strongest_.resize(size_t(L_ * model.max_batch() * H_));
}

Analyzer::~Analyzer() = default;

HeadTotals& Analyzer::head(int64_t layer, int64_t h) { return heads_[size_t(layer * H_ + h)]; }
const HeadTotals& Analyzer::head(int64_t layer, int64_t h) const { return heads_[size_t(layer * H_ + h)]; }

void Analyzer::clear() {
  const size_t T = size_t(T_), thresholds = options_.thresholds.size();
  const int64_t P = std::min(options_.map_positions, T_);
  heads_.clear();
  heads_.resize(size_t(L_ * H_));
  for (HeadTotals& totals : heads_) {
    totals.registers = registers_;
    totals.sinks.assign(thresholds, std::vector<int64_t>(size_t(sink_candidates(T_))));
    totals.any.resize(thresholds);
    totals.later.resize(thresholds);
    for (auto* curve : {&totals.share, &totals.mass, &totals.value_norm, &totals.gate_curve, &totals.gradient_curve,
                        &totals.gate_gradient_curve})
      curve->resize(T);
    totals.map.resize(size_t(P * P));
    for (const HeadFigure& figure : head_figures())
      if (figure.meter) totals.meters.push_back(figure.meter());
  }
  layers_.assign(size_t(L_), {});
  totals_ = {};
  updates_.assign(size_t(L_), {});
  residual_norm_.assign(size_t(L_ + 1), std::vector<double>(T));
  loss_ = 0;
}

Analysis Analyzer::run(int64_t step) {
  clear();
  const double tokens = double(source_.predictions()), scale = options_.gradients ? 1.0 / tokens : 0;
  batches_.for_each(source_, 0, sequences_,
                    [&](const Batch& batch) { loss_ += model_.observe(batch, scale, *this) / tokens; });
  return result(step);
}

// ---- what a block computed ------------------------------------------------------------------------------------------

void Analyzer::after_attention(const Pass& pass, int64_t layer, const Tensor& normed, const Tensor& output) {
  add_elements(layers_[size_t(layer)].norm1, host_copy(model_.backend(), normed));
  add_elements(layers_[size_t(layer)].output, host_copy(model_.backend(), output));
  if (has_heads(layer)) add_updates(pass, layer);
}

void Analyzer::after_mlp(const Pass& /*pass*/, int64_t layer, const Tensor& normed, const Tensor& output) {
  LayerTotals& sums = layers_[size_t(layer)];
  const std::vector<float> in = host_copy(model_.backend(), normed);
  std::vector<float> out = host_copy(model_.backend(), output);
  add_elements(sums.norm2, in);
  add_elements(sums.mlp_output, out);
  secondary_.add_mlp(layer + 1, out);
  std::transform(out.begin(), out.end(), in.begin(), out.begin(), std::plus<>());
  add_elements(sums.mlp_sum, out);
}

void Analyzer::after_block(const Pass& pass, int64_t layer) {
  add_residual(pass, layer, model_.stream_before(pass, layer));
  if (!has_heads(layer)) return;
  add_attention(pass, layer);
  add_values(pass, layer);
  add_gates(pass, layer);
}

void Analyzer::after_forward(const Pass& pass) {
  add_elements(totals_.final_norm, host_copy(model_.backend(), model_.scratch(pass).normed));
  add_residual(pass, L_, model_.stream_before(pass, L_));
  secondary_.add_lifetimes(totals_);
}

// x [N, C], sequence by sequence.
void Analyzer::add_elements(ElementMeans& sums, std::span<const float> x) const {
  const size_t size = size_t(T_ * model_.config().width);
  for (size_t at = 0; at < x.size(); at += size) sums.add(element_statistics(x.subspan(at, size)));
}

// What each head adds to the stream.
void Analyzer::add_updates(const Pass& pass, int64_t layer) {
  const std::vector<float> results = host_copy(model_.backend(), attention(layer).results(pass));
  const int64_t columns = int64_t(results.size()) / pass.N(), D = columns / H_;
  std::vector<HeadUpdate>& of_layer = updates_[size_t(layer)];
  if (of_layer.empty()) {
    const std::vector<float> weight = host_copy(model_.backend(), attention(layer).output_weight(pass));
    for (int64_t h = 0; h < H_; ++h) of_layer.emplace_back(weight.data() + h * D, columns, model_.config().width, D);
  }
#pragma omp parallel for schedule(static, 1)
  for (int64_t h = 0; h < H_; ++h)
    for (int64_t b = 0; b < pass.B; ++b)
      head(layer, h).stable_rank.add(
          of_layer[size_t(h)].stable_rank(results.data() + b * T_ * columns + h * D, columns, T_));
}

// `index` 0 is the embedding's output, index l + 1 that of block l.
void Analyzer::add_residual(const Pass& pass, int64_t index, const Tensor& residual) {
  const int64_t C = model_.config().width;
  const std::vector<float> host = host_copy(model_.backend(), residual);
  secondary_.add(index, host, index > 0 ? &layers_[size_t(index - 1)].like_first : nullptr);
  for (int64_t n = 0; n < pass.N(); ++n) {
    const double size = norm({host.data() + n * C, size_t(C)});
    add_to(residual_norm_[size_t(index)], n % T_, size);
    if (index > 0) layers_[size_t(index - 1)].residual_norm.add(n % T_ == 0, size);
  }
  if (index == 0) return;
  LayerTotals& sums = layers_[size_t(index - 1)];
  for (int64_t b = 0; b < pass.B; ++b) {
    const std::span<const float> one(host.data() + b * T_ * C, size_t(T_ * C));
    const ElementStatistics found = element_statistics(one);
    sums.residual.add(found);
    sums.over_median.add(found.infinity_norm / median_magnitude(one));
    if (!(found.infinity_norm > sums.largest || std::isnan(found.infinity_norm))) continue;
    sums.largest = found.infinity_norm;
    sums.position = found.largest / C;
    sums.feature = found.largest % C;
  }
}

void Analyzer::add_attention(const Pass& pass, int64_t layer) {
  const std::unique_ptr<HostWeights> weights = shown_weights(model_, pass, layer);
  if (!weights) return;
  const WeightsView& view = *attention(layer).weights();
  for (int64_t b = 0; b < pass.B; ++b) {
    HeadDiversity diversity(T_);
#pragma omp parallel for ordered schedule(static, 1)
    for (int64_t h = 0; h < H_; ++h) {
      const HeadWeights of_head = weights->of(b, h, T_);
      const WeightRows rows(of_head, view.normalised(), T_, view.reach(), model_.config().causal);
      add_weights(head(layer, h), rows, strongest(layer, b, h));
      for (const auto& meter : head(layer, h).meters) meter->add(rows);
#pragma omp ordered
      diversity.add(rows);
    }
    layers_[size_t(layer)].head_diversity.add(diversity.value());
  }
}

void Analyzer::add_weights(HeadTotals& sums, const WeightRows& weights, int64_t& strongest) const {
  for (int64_t i = 0; i < T_; ++i) add_row(sums, weights, i);
  const std::vector<double> shares = weights.mean_shares();
  for (int64_t k = 0; k < T_; ++k) add_to(sums.share, k, shares[size_t(k)]);
  add_shares(sums, shares, strongest);
}

void Analyzer::add_row(HeadTotals& sums, const WeightRows& weights, int64_t i) const {
  const std::span<const double> keys = weights.row(i);
  const double* row = keys.data();
  const int64_t seen = int64_t(keys.size());
  double on_tokens = 0, mass = 0;
  for (int64_t j = 0; j < seen; ++j) on_tokens += std::fabs(row[j]), mass += row[j];
  const double unit = weights.unit(i);
  const int64_t P = std::min(options_.map_positions, T_);
  double entropy = std::isfinite(on_tokens) ? 0 : kNoNumber;
  for (int64_t j = 0; j < seen; ++j) {
    add_to(sums.mass, j, row[j]);
    if (i < P && j < P) add_to(sums.map, i * P + j, std::fabs(row[j]) * unit);
    const double p = std::fabs(row[j]) / on_tokens;
    if (p > 0) entropy -= p * std::log(p);
  }
  sums.row_mass.add(mass);
  sums.has_rows |= on_tokens != 0;
  if (weights.has_bias_key()) sums.bias_share.add(std::fabs(weights.on_bias(i)) * unit);
  if (weights.keys_of(i) == 1 || on_tokens == 0) return;  // such a row has no choice
  sums.entropy.add(entropy);
  sums.relative_entropy.add(entropy / std::log(double(weights.keys_of(i))));
}

// One sequence's mean shares by position: what counts as a sink.
void Analyzer::add_shares(HeadTotals& sums, const std::vector<double>& shares, int64_t& strongest) const {
  sums.undefined |= std::any_of(shares.begin(), shares.end(), [](double share) { return std::isnan(share); });
  const auto end = shares.begin() + sink_candidates(T_);
  const auto most = std::max_element(shares.begin(), end);
  strongest = most - shares.begin();
  sums.largest_share.add(*most);
  for (size_t e = 0; e < options_.thresholds.size(); ++e) {
    const double threshold = options_.thresholds[e];
    for (auto at = shares.begin(); at != end; ++at) sums.sinks[e][size_t(at - shares.begin())] += *at > threshold;
    sums.any[e] += *most > threshold;
    sums.later[e] += std::any_of(shares.begin() + 1, end, [&](double share) { return share > threshold; });
  }
}

void Analyzer::add_values(const Pass& pass, int64_t layer) {
  const auto [H, KV, D_qk, D, H_q2] = attention(layer).sizes();
  const std::vector<float> values = host_copy(model_.backend(), attention(layer).values(pass));
  for (int64_t h = 0; h < H_; ++h) {
    HeadTotals& sums = head(layer, h);
    for (int64_t n = 0; n < pass.N(); ++n) {
      const double size = norm({values.data() + (n * KV + h / (H_ / KV)) * D, size_t(D)});
      add_to(sums.value_norm, n % T_, size);
      sums.value.add(n % T_ == 0, size);
      sums.value_largest.add(n % T_ == strongest(layer, n / T_, h), size);
    }
  }
}

// At the source, query heads that share a value share its gate.
void Analyzer::add_gates(const Pass& pass, int64_t layer) {
  const Stage* opener = attention(layer).opener();
  if (!opener) return;
  const std::vector<double> openings = opener->openings(pass);
  const int64_t groups = opener->opening_groups(), all = int64_t(openings.size()) / pass.N(), columns = all / groups;
  for (int64_t h = 0; h < H_; ++h) {
    HeadTotals& sums = head(layer, h);
    const int64_t group = h / (H_ / groups);
    for (int64_t n = 0; n < pass.N(); ++n)
      for (int64_t c = 0; c < columns; ++c) {
        const double open = openings[size_t(n * all + group * columns + c)];
        sums.gate.add(open);
        sums.gate_closed.add(open < kClosed ? 1 : 0);
        add_to(sums.gate_curve, n % T_, open / double(columns));
        if (n % T_ == 0) sums.gate_first.add(open);
        if (n % T_ == strongest(layer, n / T_, h)) sums.gate_largest.add(open);
      }
  }
}

// ---- gradients ------------------------------------------------------------------------------------------------------

void Analyzer::value_gradient(const Pass& pass, int64_t layer, const Tensor& d_values, bool whole) {
  std::vector<float> gradient = host_copy(model_.backend(), d_values);
  if (!whole) {
    content_ = std::move(gradient);
    return;
  }
  const auto [H, KV, D_qk, D, H_q2] = attention(layer).sizes();
  const std::vector<float> values = host_copy(model_.backend(), attention(layer).values(pass));
  std::vector<float> gate_path = gradient;
  for (size_t i = 0; i < content_.size(); ++i) gate_path[i] -= content_[i];
  for (int64_t h = 0; h < H_; ++h) {
    HeadTotals& sums = head(layer, h);
    for (int64_t n = 0; n < pass.N(); ++n) {
      const int64_t t = n % T_, at = (n * KV + h / (H_ / KV)) * D;
      const auto size_of_part = [&](const std::vector<float>& part) { return norm({part.data() + at, size_t(D)}); };
      const double size = size_of_part(gradient), value = size_of_part(values);
      add_to(sums.gradient_curve, t, size);
      sums.gradient.add(t == 0, size);
      sums.gradient_largest.add(t == strongest(layer, n / T_, h), size);
      if (value > 0) sums.radial.add(t == 0, dot(gradient.data() + at, values.data() + at, D) / value);
      if (content_.empty()) continue;
      const double through_gate = size_of_part(gate_path);
      add_to(sums.gate_gradient_curve, t, through_gate);
      sums.gate_path.add(t == 0, through_gate);
      sums.content.add(t == 0, size_of_part(content_));
    }
  }
  content_.clear();
}

void Analyzer::input_gradient(const Pass& pass, int64_t layer, const Tensor& d_input) {
  const int64_t C = model_.config().width;
  const std::vector<float> host = host_copy(model_.backend(), d_input);
  for (int64_t n = 0; n < pass.N(); ++n)
    layers_[size_t(layer)].input_gradient.add(n % T_ == 0, norm({host.data() + n * C, size_t(C)}));
}

}  // namespace sluice
