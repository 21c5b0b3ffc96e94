// What the full probe found: figures of the whole model, of each layer and of each head, curves over positions and
// maps. docs/analysis.md says what each figure is, in formulas, and where it comes from.
//
// Each list of figures is one table of fields (key, tensor, meaning, member), which JSON, metrics lines and the
// reference of figures iterate; beside them there are figures with meters of their own (figures/figure.h). A figure
// that does not exist for a model (a gate's, without a gate) is left out; one that exists but is no number (0/0, a run
// that diverged) is null. Layers may differ: a head has the figures of its layer, the model those that some layer has,
// of the heads that have them.
#pragma once

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "base/config/config.h"
#include "measure/figures/figure.h"

namespace sluice {

inline constexpr double kNoNumber = std::numeric_limits<double>::quiet_NaN();

// Shares of sequences (and, for the model, heads) whose mean attention on a position exceeds the threshold.
struct SinkRates {
  double threshold = 0;
  double first = kNoNumber;    // on the first position
  double largest = kNoNumber;  // on the position where the share is largest
  int64_t position = 0;        // that position
  double any = kNoNumber;      // on some position, each sequence its own
};

struct HeadFigures {
  int64_t layer = 0, head = 0;
  std::vector<SinkRates> sinks;  // by increasing threshold
  double sink_rate = kNoNumber;  // on the first position, at the largest threshold
  double first_token_share = kNoNumber, largest_share = kNoNumber, bias_share = kNoNumber, row_mass = kNoNumber;
  double entropy = kNoNumber, relative_entropy = kNoNumber;
  double value_norm_first = kNoNumber, value_norm_rest = kNoNumber, value_norm_ratio = kNoNumber;
  double value_norm_ratio_largest = kNoNumber;
  double gate_mean = kNoNumber, gate_closed_share = kNoNumber, gate_first = kNoNumber, gate_largest = kNoNumber;
  double attention_mass_first = kNoNumber, attention_mass_rest = kNoNumber, attention_mass_ratio = kNoNumber;
  double value_gradient_first = kNoNumber, value_gradient_rest = kNoNumber, value_gradient_ratio = kNoNumber;
  double value_gradient_ratio_largest = kNoNumber, value_gradient_per_mass = kNoNumber;
  double value_gradient_radial_first = kNoNumber, value_gradient_radial_rest = kNoNumber;
  double content_gradient_first = kNoNumber, content_gradient_rest = kNoNumber, content_gradient_ratio = kNoNumber;
  double gate_gradient_first = kNoNumber, gate_gradient_rest = kNoNumber, gate_gradient_ratio = kNoNumber;
  std::vector<double> metered;  // as metered_figures()
};

struct LayerFigures {
  int64_t layer = 0;
  double output_infinity_norm = kNoNumber, output_kurtosis = kNoNumber;
  double residual_infinity_norm = kNoNumber, residual_kurtosis = kNoNumber;
  double residual_largest = kNoNumber, residual_over_median = kNoNumber;
  int64_t residual_position = 0, residual_feature = 0;  // of residual_largest
  double residual_norm_first = kNoNumber, residual_norm_rest = kNoNumber;
};

struct ModelFigures {
  double loss = kNoNumber, perplexity = kNoNumber;
  std::vector<SinkRates> sinks;
  double sink_rate = kNoNumber, sink_rate_largest = kNoNumber, sink_rate_any = kNoNumber;
  double first_token_share = kNoNumber, bias_share = kNoNumber, entropy = kNoNumber, relative_entropy = kNoNumber;
  double value_norm_ratio = kNoNumber, value_norm_ratio_least = kNoNumber, value_norm_ratio_largest = kNoNumber;
  double infinity_norm = kNoNumber, kurtosis = kNoNumber;
  double residual_infinity_norm = kNoNumber, residual_kurtosis = kNoNumber;
  double massive_activation = kNoNumber, massive_over_median = kNoNumber;
  double gate_mean = kNoNumber, gate_closed_share = kNoNumber, gate_first = kNoNumber;
  double attention_mass_ratio = kNoNumber, value_gradient_ratio = kNoNumber, value_gradient_per_mass = kNoNumber;
  double content_gradient_ratio = kNoNumber, gate_gradient_ratio = kNoNumber;
  std::vector<double> metered;  // as metered_figures(): means over the heads that have it
};

template <class Figures>
struct FigureField {
  const char* key;
  double Figures::*member;
  Needs needs;
  const char* tensor;  // what it is measured on
  const char* meaning;
};
const std::vector<FigureField<HeadFigures>>& head_fields();
const std::vector<FigureField<LayerFigures>>& layer_fields();
const std::vector<FigureField<ModelFigures>>& model_fields();

// Means over the sequences, by position.
struct HeadCurves {
  int64_t layer = 0, head = 0;
  std::vector<double> attention;         // [T] the mean weight of the rows that see the position
  std::vector<double> value_norm;        // [T]
  std::vector<double> gate;              // [T] mean opening, or empty
  std::vector<double> value_gradient;    // [T] |dL/dv|, or empty
  std::vector<double> gate_gradient;     // [T] the gate path's part of it, or empty
  std::vector<std::vector<double>> map;  // row i: mean weights of query i on keys 0 .. i
};

struct Analysis {
  int64_t step = 0;
  std::string attention;  // the preset's name, or a pattern's: "vga, softmax*3"
  std::string data;       // the source, described
  std::string precision;  // of activations and gradients: "fp32", "bf16", "fp64"
  int64_t sequences = 0, length = 0;
  std::vector<Needs> there;  // of each layer
  bool has_gradients = false;
  bool normalised = true;  // the weights of every layer that has some: see WeightsView
  ModelFigures model;
  std::vector<LayerFigures> layers;
  std::vector<HeadFigures> heads;
  std::vector<std::vector<double>> residual_norm;  // [L + 1, T]: the embedding's output, then each block's
  std::vector<HeadCurves> curves;                  // one a head

  bool has(Needs needs, int64_t layer) const { return holds(there[size_t(layer)], needs); }
  bool has(Needs needs) const;                          // in some layer
  std::vector<int64_t> layers_without_weights() const;  // whose core's results are no weighted sums
  // Everything; curves and maps rounded to four digits.
  Json json() const;
  // As lines of metrics.jsonl: kinds analysis, analysis_layer and analysis_head.
  std::vector<Json> lines() const;
};

// Every figure in Markdown: docs/figures.md.
std::string figures_reference();

// Writes analysis.json() to RUN/analysis/step_00001000.json, where compare finds it. Returns the file's path.
std::filesystem::path save_analysis(const Analysis& analysis, const std::filesystem::path& run);

}  // namespace sluice
