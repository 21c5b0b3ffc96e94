#include "model/attention/stages/affine_weights.h"

#include "kernels/host_copy.h"
#include "model/attention/stages/affine.h"

namespace sluice {
namespace {

// What a run's weights are scaled and shifted by, in host memory.
class Scaling {
 public:
  Scaling(const Affine& stage, const Pass& pass)
      : heads_(stage.heads()),
        T_(pass.T),
        divisor_(stage.divisor()),
        factors_(stage.factors(pass)),
        average_(stage.average(pass)),
        first_key_(size_t(pass.first_key ? pass.first_key.elements() : 0)) {
    if (pass.first_key) pass.backend.download(first_key_.data(), pass.first_key);
  }

  int64_t first_key(int64_t sequence, int64_t row) const {
    return first_key_.empty() ? 0 : first_key_[size_t(sequence * T_ + row)];
  }
  double factor(int64_t sequence, int64_t head, int64_t row) const {
    return factors_[size_t((sequence * T_ + row) * heads_ + head)];
  }
  // What each token that the row sees gets beside.
  double shift(int64_t sequence, int64_t head, int64_t row) const {
    const double length = divisor_ > 0 ? divisor_ : double(row - first_key(sequence, row) + 1);
    return (average_[size_t(head)] - factor(sequence, head, row)) / length;
  }

 private:
  int64_t heads_, T_;
  double divisor_;
  std::vector<double> factors_, average_;
  std::vector<int32_t> first_key_;  // [N], or empty
};

class ScaledWeights final : public HostWeights {
 public:
  ScaledWeights(Scaling scaling, std::unique_ptr<HostWeights> before)
      : scaling_(std::move(scaling)), before_(std::move(before)) {}

  HeadWeights of(int64_t sequence, int64_t head, int64_t positions) const override {
    HeadWeights out = before_->of(sequence, head, positions);
    for (int64_t i = 0; i < positions; ++i) {
      const double factor = scaling_.factor(sequence, head, i), shift = scaling_.shift(sequence, head, i);
      for (int64_t j = scaling_.first_key(sequence, i); j <= i; ++j) {
        double& weight = out.rows[size_t(i * positions + j)];
        weight = factor * weight + shift;
      }
      if (!out.key_bias.empty()) out.key_bias[size_t(i)] *= factor;
    }
    return out;
  }

 private:
  Scaling scaling_;
  std::unique_ptr<HostWeights> before_;
};

}  // namespace

void AffineWeights::probe(const Pass& pass, const Heads& heads, const Tensor& first_weight,
                          const Tensor& first_gap) const {
  before_.probe(pass, heads, first_weight, first_gap);
  const Scaling scaling(stage_, pass);
  std::vector<double> weights = host_numbers(pass.backend, first_weight);  // [B, H, T]
  for (size_t at = 0; at < weights.size(); ++at) {
    const int64_t row = int64_t(at) % pass.T, head = int64_t(at) / pass.T % stage_.heads();
    const int64_t sequence = int64_t(at) / (pass.T * stage_.heads());
    weights[at] = scaling.factor(sequence, head, row) * weights[at] + scaling.shift(sequence, head, row);
  }
  upload_numbers(pass.backend, first_weight, weights);
}

std::unique_ptr<HostWeights> AffineWeights::read(const Pass& pass, const Heads& heads) const {
  return std::make_unique<ScaledWeights>(Scaling(stage_, pass), before_.read(pass, heads));
}

}  // namespace sluice
