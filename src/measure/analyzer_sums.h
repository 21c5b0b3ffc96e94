// What an Analyzer adds up: of each head and of each layer, over sequences.
#pragma once

#include <vector>

#include "base/statistics.h"
#include "measure/analyzer.h"

namespace sluice {

// Positions that at least half of the rows see. On later ones a few rows, which look at themselves, would make a
// "sink".
inline int64_t sink_candidates(int64_t T) { return T / 2 + 1; }

struct Analyzer::HeadSums {
  std::vector<std::vector<int64_t>> sinks;  // [thresholds, candidates]: sequences with a sink there
  std::vector<int64_t> any;                 // [thresholds]
  bool undefined = false;                   // some share was no number, so that nothing can be said of sinks
  std::vector<double> share, mass;          // [T], sums over sequences
  std::vector<double> map;                  // [P, P]
  Mean largest_share, bias_share, row_mass, entropy, relative_entropy;
  std::vector<double> value_norm, gate_curve, gradient_curve, gate_gradient_curve;  // [T]
  SinkAndRest value, value_largest;
  Mean gate, gate_closed, gate_first, gate_largest;
  SinkAndRest gradient, gradient_largest, radial, content, gate_path;
};

struct Analyzer::LayerSums {
  Mean output_norm, output_kurtosis, residual_infinity, residual_kurtosis, over_median;
  double largest = 0;
  int64_t position = 0, feature = 0;
  SinkAndRest residual;
};

}  // namespace sluice
