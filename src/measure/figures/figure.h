// A figure of attention heads with a meter of its own: what the full probe adds up over sequences, and how people see
// it.
//
// It is a source file with its meter, and a line of the list in figures.cc. Analyses, their tables, comparisons, the
// page and the reference of figures walk the list, or the descriptions that an analysis takes with it: none of them
// knows a figure's name. A head has the figure where its layer has what it needs; the model's is the mean over those
// heads.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/part_list.h"
#include "measure/figures/needs.h"
#include "model/attention/weights_view.h"

namespace sluice {

// The attention weights of one head over one sequence, by query.
class WeightRows {
 public:
  // `normalised`: see WeightsView. The weights must outlive it.
  WeightRows(const HeadWeights& weights, bool normalised, int64_t T)
      : weights_(weights), normalised_(normalised), T_(T) {}

  int64_t count() const { return T_; }
  // Of query i: the weights on keys 0 .. i, and that on a key that is no token (0 without one).
  std::span<const double> row(int64_t i) const { return {weights_.rows.data() + i * T_, size_t(i + 1)}; }
  double on_bias(int64_t i) const { return weights_.key_bias.empty() ? 0 : weights_.key_bias[size_t(i)]; }
  bool has_bias_key() const { return !weights_.key_bias.empty(); }
  // What |a_ij| is multiplied with to be a share of the row: 1 where weights are shares, else 1 / sum |a_ij| with the
  // bias key. A row of zeros has no shares; one with a NaN has NaN.
  double unit(int64_t i) const;

 private:
  const HeadWeights& weights_;
  const bool normalised_;
  const int64_t T_;
};

class HeadMeter {
 public:
  virtual ~HeadMeter() = default;
  virtual void add(const WeightRows& weights) = 0;  // of a sequence
  virtual double value() const = 0;                 // over all of them; NaN where it is no number
};

struct MeteredFigure {
  const char* key;               // in analyses and metrics
  const char *group, *title;     // of its column
  const char *tensor, *meaning;  // what it is measured on, and what it is, for people
  Needs needs;                   // with kWeights
  std::unique_ptr<HeadMeter> (*meter)();
};

const std::vector<MeteredFigure>& metered_figures();

template <>
std::vector<MeteredFigure>& part_list();
using ListedFigure = Listed<MeteredFigure>;

}  // namespace sluice
