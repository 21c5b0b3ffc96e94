#include "measure/figures/first_position_argmax.h"

#include <algorithm>
#include <cmath>

#include "base/statistics.h"

namespace sluice {
namespace {

class FirstPositionArgmax final : public HeadMeter {
 public:
  void add(const WeightRows& weights) override {
    for (int64_t i = 1; i < weights.queries_of(0); ++i) {
      double largest = std::fabs(weights.on_bias(i));
      if (std::isnan(largest)) undefined_ = true;
      for (const double weight : weights.row(i)) {
        if (std::isnan(weight)) undefined_ = true;
        largest = std::max(largest, std::fabs(weight));
      }
      if (largest > 0) on_first_.add(std::fabs(weights.row(i)[0]) == largest ? 1 : 0);
    }
  }
  double value() const override { return undefined_ || on_first_.count == 0 ? std::nan("") : on_first_.value(); }

 private:
  Mean on_first_;
  bool undefined_ = false;
};

}  // namespace

HeadFigure first_position_argmax() {
  return metered_figure("first_position_argmax_share", "share of queries whose largest weight is on the first position",
                        [] { return std::make_unique<FirstPositionArgmax>(); }, {"attention", "argmax first"});
}

}  // namespace sluice
