// What a figure of attention heads adds up for itself: it is given each sequence's weights, and yields a number.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "model/attention/weights_view.h"

namespace sluice {

// The attention weights of one head over one sequence, by query.
class WeightRows {
 public:
  // `normalised`, `reach`: see WeightsView; `causal`: ModelConfig. The weights must outlive it.
  WeightRows(const HeadWeights& weights, bool normalised, int64_t T, int64_t reach = 0, bool causal = true)
      : weights_(weights),
        normalised_(normalised),
        causal_(causal),
        T_(T),
        reach_(reach > 0 ? std::min(reach, T) : T) {}

  int64_t count() const { return T_; }
  // How many keys query i sees, and how many queries see key k, documents not looked at.
  int64_t keys_of(int64_t i) const { return before(i) + (causal_ ? 0 : behind(i)) - (causal_ ? 0 : 1); }
  int64_t queries_of(int64_t k) const { return behind(k) + (causal_ ? 0 : before(k)) - (causal_ ? 0 : 1); }
  // Of query i: the weights on keys 0 .. i, or where it sees both sides on all, and that on a key that is no token (0
  // without one).
  std::span<const double> row(int64_t i) const { return {weights_.rows.data() + i * T_, size_t(causal_ ? i + 1 : T_)}; }
  double on_bias(int64_t i) const { return weights_.key_bias.empty() ? 0 : weights_.key_bias[size_t(i)]; }
  bool has_bias_key() const { return !weights_.key_bias.empty(); }
  // What |a_ij| is multiplied with to be a share of the row: 1 where weights are shares, else 1 / sum |a_ij| with the
  // bias key. A row of zeros has no shares; one with a NaN has NaN.
  double unit(int64_t i) const;
  // Of each position k: the mean over the rows that see it of |a_ik| as a share of its row.
  std::vector<double> mean_shares() const;

 private:
  const HeadWeights& weights_;
  // Positions that are near enough to be seen, its own among them.
  int64_t before(int64_t i) const { return std::min(i + 1, reach_); }
  int64_t behind(int64_t i) const { return std::min(T_ - i, reach_); }

  const bool normalised_, causal_;
  const int64_t T_, reach_;
};

class HeadMeter {
 public:
  virtual ~HeadMeter() = default;
  virtual void add(const WeightRows& weights) = 0;  // of a sequence
  virtual double value() const = 0;                 // over all of them; NaN where it is no number
};

}  // namespace sluice
