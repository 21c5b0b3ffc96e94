#include "measure/figures/later_sinks.h"

#include <algorithm>
#include <cmath>

#include "base/statistics.h"

namespace sluice {
namespace {

// The mean over sequences of what `of` makes of the number of sinks from position `first` on.
class SinkCount final : public HeadMeter {
 public:
  SinkCount(int64_t first, double (*of)(int64_t count)) : first_(first), of_(of) {}
  void add(const WeightRows& weights) override {
    const std::vector<double> shares = weights.mean_shares();
    const bool undefined = std::any_of(shares.begin(), shares.end(), [](double share) { return std::isnan(share); });
    const int64_t count =
        std::count_if(shares.begin() + first_, shares.begin() + std::max(first_, sink_candidates(weights.count())),
                      [](double share) { return share > kLaterSinkThreshold; });
    mean_.add(undefined ? kNoNumber : of_(count));
  }
  double value() const override { return mean_.value(); }

 private:
  const int64_t first_;
  double (*const of_)(int64_t count);
  Mean mean_;
};

}  // namespace

std::vector<HeadFigure> later_sinks() {
  return {
      metered_figure("later_sink_share",
                     "share of sequences with a mean weight above 0.1 on some position but the first",
                     [] { return std::make_unique<SinkCount>(1, [](int64_t count) { return count > 0 ? 1.0 : 0.0; }); },
                     {"sinks above 0.1", "later"}),
      metered_figure("sinks_per_sequence", "mean number of positions with a mean weight above 0.1",
                     [] { return std::make_unique<SinkCount>(0, [](int64_t count) { return double(count); }); },
                     {"sinks above 0.1", "a sequence"}),
  };
}

}  // namespace sluice
