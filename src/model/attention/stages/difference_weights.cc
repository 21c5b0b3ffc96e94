#include "model/attention/stages/difference_weights.h"

#include "kernels/host_copy.h"

namespace sluice {
namespace {

class HostDifference final : public HostWeights {
 public:
  HostDifference(std::unique_ptr<HostWeights> before, const DifferenceLayout& layout, std::vector<double> factors,
                 int64_t T)
      : before_(std::move(before)), layout_(layout), factors_(std::move(factors)), T_(T) {}

  HeadWeights of(int64_t sequence, int64_t head, int64_t positions) const override {
    HeadWeights out = before_->of(sequence, layout_.signal_at(head), positions);
    const HeadWeights noise = before_->of(sequence, layout_.noise_at(head / layout_.signal), positions);
    for (int64_t i = 0; i < positions; ++i) {
      const double factor = factors_[size_t((sequence * T_ + i) * layout_.heads + head)];
      for (size_t at = size_t(i * positions); at < size_t((i + 1) * positions); ++at)
        out.rows[at] = less(out.rows[at], noise.rows[at], factor);
      if (!out.key_bias.empty())
        out.key_bias[size_t(i)] = less(out.key_bias[size_t(i)], noise.key_bias[size_t(i)], factor);
    }
    return out;
  }

 private:
  std::unique_ptr<HostWeights> before_;
  DifferenceLayout layout_;
  std::vector<double> factors_;
  int64_t T_;
};

}  // namespace

void DifferenceWeights::probe(const Pass& pass, const Heads& heads, const Tensor& first_weight,
                              const Tensor& first_gap) const {
  const int64_t H = layout_.heads, all = layout_.all_heads(), T = pass.T;
  const Tensor both = pass.view(probed_, {2, pass.B * all * T});
  const Tensor weight = both.row_range(0, 1), gap = both.row_range(1, 1);
  before_.probe(pass, heads, weight.reshaped({pass.B, all, T}), gap.reshaped({pass.B, all, T}));
  const std::vector<double> weights = host_numbers(pass.backend, weight), gaps = host_numbers(pass.backend, gap),
                            factor = factors_(pass);
  std::vector<double> differences, own_gaps;
  for (int64_t b = 0; b < pass.B; ++b)
    for (int64_t h = 0; h < H; ++h)
      for (int64_t t = 0; t < T; ++t) {
        const size_t signal = size_t((b * all + layout_.signal_at(h)) * T + t);
        const size_t noise = size_t((b * all + layout_.noise_at(h / layout_.signal)) * T + t);
        differences.push_back(less(weights[signal], weights[noise], factor[size_t((b * T + t) * H + h)]));
        own_gaps.push_back(gaps[signal]);
      }
  upload_numbers(pass.backend, first_weight, differences);
  upload_numbers(pass.backend, first_gap, own_gaps);
}

std::unique_ptr<HostWeights> DifferenceWeights::read(const Pass& pass, const Heads& heads) const {
  return std::make_unique<HostDifference>(before_.read(pass, heads), layout_, factors_(pass), pass.T);
}

}  // namespace sluice
