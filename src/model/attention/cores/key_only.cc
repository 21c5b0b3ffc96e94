#include "model/attention/cores/key_only.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/formulas/key_only.h"
#include "kernels/host_copy.h"

namespace sluice {
namespace {

struct KeyOnlyOptions final : CoreOptions {
  std::unique_ptr<CoreOptions> clone() const override { return std::make_unique<KeyOnlyOptions>(*this); }
  bool causal_only() const override { return true; }
  void describe(Fields& /*attention*/) override {}
  std::string text() const override { return "weights that are the keys' own"; }
};

// Scores of every position, on the host.
class KeyScores final : public HostWeights {
 public:
  KeyScores(Backend& backend, const KeyOnlyForward& run)
      : T_(run.shape.T), H_(run.shape.H), first_(size_t(run.first_key ? run.first_key.elements() : 0)) {
    if (run.first_key) backend.download(first_.data(), run.first_key);
    const std::vector<double> q = host_numbers(backend, run.q), k = host_numbers(backend, run.k);
    const int64_t D = run.shape.D_qk, KV = run.shape.KV, group = H_ / KV;
    for (int64_t b = 0; b < run.shape.B; ++b)
      for (int64_t h = 0; h < H_; ++h)
        for (int64_t n = b * T_; n < (b + 1) * T_; ++n) {
          double sum = 0;
          for (int64_t i = 0; i < D; ++i)
            sum += Silu::forward<double>(q[size_t((n * H_ + h) * D + i)]) * k[size_t((n * KV + h / group) * D + i)];
          scores_.push_back(run.scale * sum);
        }
    for (size_t row = 0; row < scores_.size(); ++row) {
      const int64_t i = int64_t(row) % T_, b = int64_t(row) / (T_ * H_);
      const double before = i > first(b, i) ? log_masses_[row - 1] : -std::numeric_limits<double>::infinity();
      const double larger = std::max(before, scores_[row]);
      log_masses_.push_back(larger + std::log(std::exp(before - larger) + std::exp(scores_[row] - larger)));
    }
  }

  HeadWeights of(int64_t sequence, int64_t head, int64_t positions) const override {
    HeadWeights out;
    out.rows.resize(size_t(positions * positions));
    for (int64_t i = 0; i < positions; ++i) {
      double* row = out.rows.data() + i * positions;
      for (int64_t j = first(sequence, i); j <= i; ++j) row[j] = weight(sequence, head, i, j);
    }
    return out;
  }

  int64_t first(int64_t b, int64_t i) const { return first_.empty() ? 0 : first_[size_t(b * T_ + i)]; }
  double score(int64_t b, int64_t h, int64_t j) const { return scores_[size_t((b * H_ + h) * T_ + j)]; }
  // What row i gives to position j.
  double weight(int64_t b, int64_t h, int64_t i, int64_t j) const {
    return std::exp(score(b, h, j) - log_masses_[size_t((b * H_ + h) * T_ + i)]);
  }
  // The first score that row i sees, less the mean of those between it and its own; 0 where there are none.
  double gap(int64_t b, int64_t h, int64_t i) const {
    const int64_t from = first(b, i), between = i - from - 1;
    double sum = 0;
    for (int64_t j = from + 1; j < i; ++j) sum += score(b, h, j);
    return between > 0 ? score(b, h, from) - sum / double(between) : 0;
  }

 private:
  int64_t T_, H_;
  std::vector<double> scores_;      // [B, H, T]
  std::vector<double> log_masses_;  // [B, H, T]: of the exponentials that a row sees
  std::vector<int32_t> first_;      // [N], or empty
};

}  // namespace

KeyOnly::KeyOnly(const LayerPlace& place) : sizes_(place.projected), acc_(place.d.acc()) {
  const Declarations& d = place.d;
  betas_ = d.attention_activation(place.layer, place.name + ".betas", "statistics",
                                  {d.max_batch, sizes_.H_q, d.config.rows()}, acc_);
  const int back = d.timeline.attention_backward(place.layer);
  workspace_ = d.plan.declare(place.name + ".workspace", "scratch",
                              {d.backend.workspace<KeyOnlyBackward>({shape(d.max_batch, d.config.rows()), d.act})},
                              DType::kF32, {back, back});
  average_ = d.states.declare({1, sizes_.H_q * (sizes_.D_v + 2)}, acc_);
}

KeyOnlyForward KeyOnly::arguments(const Pass& pass, const Heads& heads) const {
  return {.shape = shape(pass.B, pass.T),
          .scale = 1.0 / std::sqrt(double(sizes_.D_qk)),
          .q = heads.q,
          .k = heads.k,
          .v = heads.v,
          .first_key = pass.first_key,
          .out = heads.out,
          .betas = pass.view(betas_, {pass.B, sizes_.H_q, pass.T})};
}

void KeyOnly::forward(const Pass& pass, const Heads& heads) const { pass.backend.run(arguments(pass, heads)); }

void KeyOnly::backward(const Pass& pass, const Heads& heads, const Heads& d) const {
  pass.backend.run(KeyOnlyBackward{.forward = arguments(pass, heads),
                                   .d_out = d.out,
                                   .d_q = d.q,
                                   .d_k = d.k,
                                   .d_v = d.v,
                                   .workspace = pass.view(workspace_, pass.plan.buffer(workspace_).shape)});
}

void KeyOnly::extend(const Pass& pass, const Heads& heads) const {
  KeyOnlyForward args = arguments(pass, heads);
  args.state = pass.state->view(average_);
  args.resume = pass.first_position > 0;
  pass.backend.run(args);
}

// ---- for instruments ------------------------------------------------------------------------------------------------

void KeyOnly::probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const {
  const KeyScores scores(pass.backend, arguments(pass, heads));
  std::vector<double> weights, gaps;
  for (int64_t b = 0; b < pass.B; ++b)
    for (int64_t h = 0; h < sizes_.H_q; ++h)
      for (int64_t i = 0; i < pass.T; ++i) {
        weights.push_back(scores.weight(b, h, i, scores.first(b, i)));
        gaps.push_back(scores.gap(b, h, i));
      }
  upload_numbers(pass.backend, first_weight, weights);
  upload_numbers(pass.backend, first_gap, gaps);
}

std::unique_ptr<HostWeights> KeyOnly::read(const Pass& pass, const Heads& heads) const {
  return std::make_unique<KeyScores>(pass.backend, arguments(pass, heads));
}

// ---- in the list ----------------------------------------------------------------------------------------------------

CorePart key_only_core() {
  return {.name = "key_only",
          .summary = "running averages of values, weighted by scores of the keys' own (arXiv 2510.11602)",
          .options = []() -> std::unique_ptr<CoreOptions> { return std::make_unique<KeyOnlyOptions>(); },
          .make = [](const LayerPlace& place, const CoreOptions& /*options*/) -> std::unique_ptr<Core> {
            return std::make_unique<KeyOnly>(place);
          },
          .in_python = true,
          .example = R"({"attention": {"type": "custom", "core": "key_only"}})"};
}

}  // namespace sluice
