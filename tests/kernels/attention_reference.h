// Causal attention the plain way, in double: for every row the scores of all keys, the weights by the published formula
// without any shift, then the sum of values. Nothing here calls the score functions under test: a new one needs its
// formula in `reference_weights`, and every test of attention fails until it has one.
#pragma once

#include <stdexcept>

#include "kernels/attention_case.h"

namespace sluice {

// p_j from the scores s_j of a row that sees `length` positions; `sink` is the head's learned logit. The exponents here
// stay below e^709.
inline Values reference_weights(ScoreKind kind, const Values& s, double length, double sink, const ScoreConstants& c) {
  Values p(s.size());
  double exponentials = 0, magnitudes = 0;
  for (const double score : s) exponentials += std::exp(score), magnitudes += std::fabs(std::expm1(score));
  for (size_t j = 0; j < s.size(); ++j) {
    const double e = std::exp(s[j]);
    switch (kind) {
      case ScoreKind::kSoftmax: p[j] = e / exponentials; break;
      case ScoreKind::kSoftmaxPlusOne: p[j] = e / (1 + exponentials); break;
      case ScoreKind::kSinkLogit: p[j] = e / (std::exp(sink) + exponentials); break;
      case ScoreKind::kSigmoid:
        p[j] = 1 / (1 + std::exp(-(s[j] + c.bias - (c.bias_minus_log_length ? std::log(length) : 0))));
        break;
      case ScoreKind::kRelu: p[j] = s[j] > 0 ? s[j] / length : 0; break;
      case ScoreKind::kClippedSoftmax:
        p[j] = std::fmin(1, std::fmax(0, (c.zeta - c.gamma) * e / exponentials + c.gamma));
        break;
      case ScoreKind::kSoftpick: p[j] = s[j] > 0 ? std::expm1(s[j]) / (magnitudes + c.epsilon) : 0; break;
      case ScoreKind::kCount: throw std::logic_error("reference_weights: write down the formula of the new score here");
    }
  }
  return p;
}

// The weights of one row: the bias slot's first, where there is one, then those of the keys from the row's first on.
struct ReferenceRow {
  Values scores, weights, sizes;  // sizes: scale * sum_d |q_d k_d|, what rounding errors of a score are measured by
};

class AttentionReference {
 public:
  explicit AttentionReference(const AttentionCase& problem)
      : spec_(problem.spec),
        slot_(problem.slot),
        first_keys_(problem.documents ? values_of(problem.first_key) : Values(size_t(spec_.shape.B * spec_.shape.T))),
        qkv_(values_of(problem.qkv)),
        key_bias_(values_of(problem.key_bias)),
        value_bias_(values_of(problem.value_bias)),
        sink_logit_(values_of(problem.sink_logit)) {}

  // The first key of row i: that of its document.
  int64_t first_key(int64_t b, int64_t i) const { return int64_t(first_keys_[size_t(b * spec_.shape.T + i)]); }

  ReferenceRow row(int64_t b, int64_t h, int64_t i) const {
    ReferenceRow out;
    const int64_t first = first_key(b, i);
    const auto add = [&](const double* k) {
      double score = 0, size = 0;
      for (int64_t d = 0; d < spec_.shape.D; ++d) {
        const double product = query(b, h, i)[d] * k[d];
        score += product, size += std::fabs(product);
      }
      out.scores.push_back(spec_.scale * score);
      out.sizes.push_back(spec_.scale * size);
    };
    if (slot_ != Slot::kNone) add(&key_bias_[size_t(group(h) * spec_.shape.D)]);
    for (int64_t j = first; j <= i; ++j) add(key(b, h, j));
    out.weights = reference_weights(spec_.score, out.scores, double(i - first + 1), sink_logit_[size_t(h)],
                                    spec_.constants);
    return out;
  }

  // O_i [D]
  Values output(int64_t b, int64_t h, int64_t i, const ReferenceRow& row) const {
    Values out(size_t(spec_.shape.D));
    const int64_t slots = slot_ != Slot::kNone, first = first_key(b, i);
    for (int64_t d = 0; d < spec_.shape.D; ++d) {
      if (slot_ == Slot::kKeyValue)
        out[size_t(d)] += row.weights[0] * value_bias_[size_t(group(h) * spec_.shape.D + d)];
      for (int64_t j = first; j <= i; ++j) out[size_t(d)] += row.weights[size_t(slots + j - first)] * value(b, h, j)[d];
    }
    return out;
  }

  // body(b, h, i) for every row.
  template <class Body>
  void for_rows(Body body) const {
    for (int64_t b = 0; b < spec_.shape.B; ++b)
      for (int64_t h = 0; h < spec_.shape.H; ++h)
        for (int64_t i = 0; i < spec_.shape.T; ++i) body(b, h, i);
  }

  // [N, H*D]
  Values outputs() const {
    const auto [B, T, H, KV, D] = spec_.shape;
    Values out(size_t(B * T * H * D));
    for_rows([&](int64_t b, int64_t h, int64_t i) {
      const Values o = output(b, h, i, row(b, h, i));
      std::copy(o.begin(), o.end(), out.begin() + ((b * T + i) * H + h) * D);
    });
    return out;
  }

 private:
  int64_t group(int64_t h) const { return h / (spec_.shape.H / spec_.shape.KV); }
  const double* at(int64_t b, int64_t i, int64_t head) const {
    const auto [B, T, H, KV, D] = spec_.shape;
    return &qkv_[size_t(((b * T + i) * (H + 2 * KV) + head) * D)];
  }
  const double* query(int64_t b, int64_t h, int64_t i) const { return at(b, i, h); }
  const double* key(int64_t b, int64_t h, int64_t j) const { return at(b, j, spec_.shape.H + group(h)); }
  const double* value(int64_t b, int64_t h, int64_t j) const {
    return at(b, j, spec_.shape.H + spec_.shape.KV + group(h));
  }

  AttentionSpec spec_;
  Slot slot_;
  Values first_keys_, qkv_, key_bias_, value_bias_, sink_logit_;
};

}  // namespace sluice
