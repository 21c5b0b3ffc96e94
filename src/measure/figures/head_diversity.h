// How much the heads of a layer differ (arXiv 2510.11602): the standard deviation over heads of a_ij, as a share of its
// row, its mean over the pairs (j <= i, or where rows see both sides all). The deviation of the heads that there are
// (divided by H); 0 where all are alike.
#pragma once

#include <cstdint>
#include <vector>

#include "measure/figures/head_meter.h"

namespace sluice {

// Of one sequence. Memory is [T, T], whatever the number of heads.
class HeadDiversity {
 public:
  explicit HeadDiversity(int64_t T) : T_(T), mean_(size_t(T * T)), squares_(size_t(T * T)), keys_(size_t(T)) {}
  void add(const WeightRows& weights);  // of the next head
  double value() const;                 // of those that were added

 private:
  const int64_t T_;
  double heads_ = 0;
  std::vector<double> mean_, squares_;  // [T, T]: over heads; of the differences from the mean, their sum
  std::vector<size_t> keys_;            // [T]: of a row
};

}  // namespace sluice
