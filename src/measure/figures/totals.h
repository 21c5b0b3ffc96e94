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
  bool has_rows = false;                    // some row has weights on tokens
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

// Of the tokens after the first, those that point where the first does at a block's output (secondary_sinks.h).
struct LikeFirst {
  Mean share;                             // of the tokens
  Mean norm, others_norm, first_norm;     // |h_k| of them, of the others, and |h_0|
  Mean mlp, mlp_of_others, mlp_of_first;  // |cos| between the MLP's output and h_0
};

struct LayerTotals {
  ElementMeans norm1, output, norm2, mlp_output, mlp_sum, residual;
  Mean over_median;
  double largest = 0;
  int64_t position = 0, feature = 0;
  SinkAndRest residual_norm, input_gradient;
  Mean head_diversity;
  LikeFirst like_first;
};

// Where secondary sinks are, and for how long: sums over sequences of numbers of tokens.
struct SinkPlaces {
  std::vector<double> secondary, primary_like;  // [T], by position
  std::vector<double> lifetimes, starts;        // [L + 1], by the number of blocks, and by the first of them (from 1)
  std::vector<std::vector<double>> like_first;  // [L, T]: at each block's output
};

struct ModelTotals {
  ElementMeans final_norm;
  Mean secondary_sinks, primary_like_sinks;                        // of a sequence
  Mean secondary_lifetime;                                         // of a sink, as a share of the depth
  Mean secondary_blocks, secondary_position, secondary_at_second;  // of a secondary sink
  Mean secondary_first_position;                                   // of a sequence that has some
  SinkPlaces places;
};

// NaN of nothing.
inline double mean_of_some(const Mean& mean) { return mean.count ? mean.value() : kNoNumber; }

}  // namespace sluice
