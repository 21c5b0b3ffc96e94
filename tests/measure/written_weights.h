// Attention weights that are written down, or drawn, and what a figure of heads says of them.
#pragma once

#include <cmath>
#include <vector>

#include "base/philox.h"
#include "measure/figures/figure.h"

namespace sluice {

// Of one head over one sequence.
struct WrittenWeights {
  std::vector<double> rows;  // [T, T]
  std::vector<double> key_bias = {};
  bool normalised = true;
};

inline double measured(const HeadFigure& figure, const std::vector<WrittenWeights>& sequences) {
  const std::unique_ptr<HeadMeter> meter = figure.meter();
  for (const WrittenWeights& one : sequences) {
    const HeadWeights weights{one.rows, one.key_bias};
    meter->add(WeightRows(weights, one.normalised, int64_t(std::sqrt(double(one.rows.size())) + 0.5)));
  }
  return meter->value();
}

// Rows of softmax over scores in 0 to `spread`.
inline WrittenWeights random_weights(int64_t T, uint64_t seed, double spread) {
  WrittenWeights out{.rows = std::vector<double>(size_t(T * T))};
  for (int64_t i = 0; i < T; ++i) {
    double sum = 0;
    for (int64_t j = 0; j <= i; ++j) {
      double& weight = out.rows[size_t(i * T + j)];
      weight = std::exp(spread * double(philox(seed, 7, uint64_t(i * T + j)).word[0]) * 0x1p-32);
      sum += weight;
    }
    for (int64_t j = 0; j <= i; ++j) out.rows[size_t(i * T + j)] /= sum;
  }
  return out;
}

}  // namespace sluice
