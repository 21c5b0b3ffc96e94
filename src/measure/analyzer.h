// The full probe: every figure of the lists in figures/, measured on held-out sequences in one forward and backward
// pass.
//
// Attention weights are computed again on the host, in double precision and one head of one sequence at a time, so
// memory does not grow with the number of sequences or heads. What the device keeps (queries, keys, values, gates, the
// residual stream, gradients of values) is copied layer by layer while it is there.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "data/batches.h"
#include "measure/figures/analysis.h"
#include "measure/figures/secondary_sinks.h"
#include "measure/figures/stable_rank.h"
#include "model/transformer.h"

namespace sluice {

// Tokens of a sequence, where nobody says otherwise (arXiv 2410.10781).
inline int64_t analysis_length(int64_t context) { return std::min<int64_t>(64, context); }

struct AnalysisOptions {
  int64_t sequences = 100;                           // or as many as the source has
  std::vector<double> thresholds = {0.1, 0.2, 0.3};  // increasing; of the sink rates
  bool gradients = true;                             // needs a model with gradients, which it overwrites
  int64_t map_positions = 32;                        // of the mean attention maps; 0: none
};

class Analyzer final : private PassObserver {
 public:
  // On sequences of source.context() tokens, from 2 to the model's context. Model and source must outlive it.
  Analyzer(Transformer& model, const DataSource& source, AnalysisOptions options);
  ~Analyzer() override;

  Analysis run(int64_t step);

 private:
  void after_attention(const Pass& pass, int64_t layer, const Tensor& normed, const Tensor& output) override;
  void after_mlp(const Pass& pass, int64_t layer, const Tensor& normed, const Tensor& output) override;
  void after_block(const Pass& pass, int64_t layer) override;
  void after_forward(const Pass& pass) override;
  void value_gradient(const Pass& pass, int64_t layer, const Tensor& d_values, bool whole) override;
  void input_gradient(const Pass& pass, int64_t layer, const Tensor& d_input) override;

  void clear();
  void add_attention(const Pass& pass, int64_t layer);
  void add_weights(HeadTotals& sums, const WeightRows& weights, int64_t& strongest) const;
  void add_row(HeadTotals& sums, const WeightRows& weights, int64_t i) const;
  void add_shares(HeadTotals& sums, const std::vector<double>& shares, int64_t& strongest) const;
  void add_values(const Pass& pass, int64_t layer);
  void add_gates(const Pass& pass, int64_t layer);
  void add_updates(const Pass& pass, int64_t layer);
  void add_residual(const Pass& pass, int64_t index, const Tensor& residual);
  void add_elements(ElementMeans& sums, std::span<const float> x) const;

  Analysis result(int64_t step);
  void finish_totals();
  HeadAnalysis head_analysis(int64_t layer, int64_t head) const;
  LayerAnalysis layer_analysis(int64_t layer) const;
  std::vector<SinkRates> sink_rates(const std::vector<const HeadTotals*>& heads) const;
  HeadCurves head_curves(int64_t layer, int64_t head) const;

  const AttentionLayer& attention(int64_t layer) const { return model_.blocks()[size_t(layer)].attention(); }
  bool has_heads(int64_t layer) const { return model_.blocks()[size_t(layer)].has_heads(); }
  Needs there(int64_t layer) const;  // what a layer has that figures may need
  HeadTotals& head(int64_t layer, int64_t h);
  const HeadTotals& head(int64_t layer, int64_t h) const;
  int64_t& strongest(int64_t layer, int64_t b, int64_t h) {
    return strongest_[size_t((layer * model_.max_batch() + b) * H_ + h)];
  }

  Transformer& model_;
  const DataSource& source_;
  const AnalysisOptions options_;
  const int64_t sequences_;
  const int64_t registers_, T_, L_, H_;  // T_: positions of a sequence, registers included
  std::vector<HeadTotals> heads_;        // [L, H]
  std::vector<LayerTotals> layers_;      // [L]
  ModelTotals totals_;
  std::vector<std::vector<double>> residual_norm_;  // [L + 1, T], sums over sequences
  std::vector<std::vector<HeadUpdate>> updates_;    // [L][H], of layers that have heads
  double loss_ = 0;                                 // sum over sequences of their mean losses
  // Of the micro-batch that is running.
  BatchReader batches_;
  std::vector<int64_t> strongest_;  // [L, max batch, H]: the position of each sequence's largest sink
  SecondarySinks secondary_;
  std::vector<float> content_;  // [N, H_kv D_v]: a layer's gradient before the gate's path is added; empty without one
};

}  // namespace sluice
