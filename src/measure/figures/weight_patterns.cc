#include "measure/figures/weight_patterns.h"

#include <cmath>

#include "base/statistics.h"

namespace sluice {
namespace {

class Concentration final : public HeadMeter {
 public:
  void add(const WeightRows& weights) override {
    double squares = 0;
    for (int64_t i = 0; i < weights.count(); ++i) {
      const double unit = weights.unit(i);
      for (const double weight : weights.row(i)) squares += weight * unit * weight * unit;
    }
    norm_.add(std::sqrt(squares));
  }
  double value() const override { return norm_.value(); }

 private:
  Mean norm_;
};

class LocalFocus final : public HeadMeter {
 public:
  explicit LocalFocus(int64_t distance) : distance_(distance) {}
  void add(const WeightRows& weights) override {
    for (int64_t i = distance_; i < weights.count(); ++i)
      share_.add(std::fabs(weights.row(i)[size_t(i - distance_)]) * weights.unit(i));
  }
  double value() const override { return share_.count ? share_.value() : kNoNumber; }

 private:
  const int64_t distance_;
  Mean share_;
};

HeadFigure local_focus(const char* key, const char* meaning, int64_t distance, const char* title) {
  return metered_figure(key, meaning, [distance] { return std::make_unique<LocalFocus>(distance); },
                        {"focus at distance", title});
}

}  // namespace

std::vector<HeadFigure> weight_patterns() {
  return {
      metered_figure("concentration", "mean over sequences of the Frobenius norm of the weights' matrix",
                     [] { return std::make_unique<Concentration>(); }, {"attention", "concentration"}),
      local_focus("local_focus_0", "mean weight of a query on its own position", 0, "0"),
      local_focus("local_focus_1", "mean weight on the position before", 1, "1"),
      local_focus("local_focus_2", "mean weight on the second position before", 2, "2"),
      local_focus("local_focus_3", "mean weight on the third position before", 3, "3"),
  };
}

}  // namespace sluice
