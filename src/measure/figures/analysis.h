// What the full probe found: figures of the whole model, of each layer and of each head (figure.h), curves over
// positions and maps. docs/analysis.md says what each figure is, in formulas, and where it comes from.
//
// A figure that does not exist for a model (a gate's, without a gate) is left out; one that exists but is no number
// (0/0, a run that diverged) is null. Layers may differ: a head has the figures of its layer, the model those that some
// layer has, of the heads that have them.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/config/config.h"
#include "measure/figures/figure.h"

namespace sluice {

struct HeadAnalysis {
  int64_t layer = 0, head = 0;
  bool without_rows = false;     // there are weights, and all of them are 0
  std::vector<SinkRates> sinks;  // by increasing threshold
  std::vector<double> values;    // as head_figures()
  double operator[](std::string_view key) const;
};

struct LayerAnalysis {
  int64_t layer = 0;
  int64_t residual_position = 0, residual_feature = 0;  // of residual_largest
  std::vector<double> values;                           // as layer_figures()
  double operator[](std::string_view key) const;
};

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
  std::string attention;              // the preset's name, or a pattern's: "vga, softmax*3"
  std::string changes;                // the parts of what is no preset's; "" if all are
  std::string data;                   // the source, described
  std::string precision;              // of activations and gradients: "fp32", "bf16", "fp64"
  int64_t sequences = 0, length = 0;  // tokens of a sequence
  int64_t registers = 0;              // positions before them, which hold none
  std::vector<Needs> there;           // of each layer
  bool has_gradients = false;
  bool normalised = true;        // the weights of every layer that has some: see WeightsView
  double loss = kNoNumber;       // mean over the sequences, in nats
  std::vector<SinkRates> sinks;  // of the model
  ModelTotals totals;            // what some of its figures are made from
  std::vector<double> values;    // as model_figures()
  std::vector<LayerAnalysis> layers;
  std::vector<HeadAnalysis> heads;
  std::vector<std::vector<double>> residual_norm;  // [L + 1, T]: the embedding's output, then each block's
  std::vector<HeadCurves> curves;                  // one a head

  double operator[](std::string_view key) const;  // of the model
  bool has(Needs needs, int64_t layer) const { return holds(there[size_t(layer)], needs); }
  bool has(Needs needs) const;  // in some layer
  std::vector<int64_t> layers_without(Needs needs) const;
  std::vector<int64_t> layers_without_mass() const;  // that have weights, and some may be negative
  int64_t heads_without_rows() const;
  // Everything; curves and maps rounded to four digits.
  Json json() const;
  // As lines of metrics.jsonl: kinds analysis, analysis_layer and analysis_head.
  std::vector<Json> lines() const;
};

// The mean of a figure of heads over those that have it. A head without rows of which it is no number is left out.
double mean_of_heads(const Analysis& analysis, std::string_view key);

// Every figure in Markdown: docs/figures.md.
std::string figures_reference();

// Writes analysis.json() to RUN/analysis/step_00001000.json, where compare finds it. Returns the file's path.
std::filesystem::path save_analysis(const Analysis& analysis, const std::filesystem::path& run);

}  // namespace sluice
