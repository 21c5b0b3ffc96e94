// What the full probe adds up over sequences, of each head and of each layer: what figures are made from.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "base/statistics.h"
#include "measure/figures/head_meter.h"

namespace sluice {

inline constexpr double kNoNumber = std::numeric_limits<double>::quiet_NaN();

// Shares of sequences (and, for the model, heads) whose mean attention on a position exceeds the threshold.
struct SinkRates {
  double threshold = 0;
  double first = kNoNumber;    // on the first position
  double largest = kNoNumber;  // on the position where the share is largest
  int64_t position = 0;        // that position
  double any = kNoNumber;      // on some position, each sequence its own
  double later = kNoNumber;    // on some position but the first
  double count = kNoNumber;    // no share: the mean number of such positions
};

// Positions that at least half of the rows see. On later ones a few rows, which look at themselves, would make a
// "sink".
inline int64_t sink_candidates(int64_t T) { return T / 2 + 1; }

struct HeadTotals {
  int64_t registers = 0;                    // the first positions, which hold no token
  std::vector<std::vector<int64_t>> sinks;  // [thresholds, candidates]: sequences with a sink there
  std::vector<int64_t> any, later;          // [thresholds]
  bool undefined = false;                   // some share was no number, so that nothing can be said of sinks
  std::vector<double> share, mass;          // [T], sums over sequences
  std::vector<double> map;                  // [P, P]
  Mean largest_share, bias_share, row_mass, entropy, relative_entropy;
  std::vector<double> value_norm, gate_curve, gradient_curve, gate_gradient_curve;  // [T]
  SinkAndRest value, value_largest;
  Mean gate, gate_closed, gate_first, gate_largest;
  SinkAndRest gradient, gradient_largest, radial, content, gate_path;
  Mean stable_rank;
  std::vector<std::unique_ptr<HeadMeter>> meters;  // of the figures that have one

  // When all is added up:
  double sequences = 0;
  std::vector<SinkRates> rates;  // by increasing threshold
  SinkAndRest received;          // a sequence's attention on a position, that of all heads which share its value
};

// Of a tensor's elements, sequence by sequence.
struct ElementMeans {
  Mean infinity_norm, kurtosis;
  void add(const ElementStatistics& elements) {
    infinity_norm.add(elements.infinity_norm);
    kurtosis.add(elements.kurtosis);
  }
};

struct LayerTotals {
  ElementMeans norm1, output, norm2, mlp_output, mlp_sum, residual;
  Mean over_median;
  double largest = 0;
  int64_t position = 0, feature = 0;
  SinkAndRest residual_norm, input_gradient;
  Mean head_diversity, secondary;
};

struct ModelTotals {
  ElementMeans final_norm;
  Mean secondary_sinks, primary_like_sinks;  // of a sequence
  Mean secondary_lifetime;                   // of a sink, as a share of the depth
};

}  // namespace sluice
