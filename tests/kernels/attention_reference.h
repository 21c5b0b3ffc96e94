// Attention the plain way, in double: for every row the scores of all keys, the weights by the published formula
// without any shift, then the sum of values. Nothing here calls the score functions under test; their formulas the
// plain way are in score_references_helper.cc.
#pragma once

#include <tuple>

#include "kernels/attention_case.h"
#include "kernels/dropout_reference.h"

namespace sluice {

// The weights of one row: the bias slot's first, where there is one, then those of the keys that it sees, by place.
struct ReferenceRow {
  Values scores, weights, sizes;      // sizes: scale * sum_d |q_d k_d|, what rounding errors of a score are measured by
  double reference = 0, inverse = 0;  // m, and 1 / the normaliser
};

class AttentionReference {
 public:
  explicit AttentionReference(const AttentionCase& problem)
      : problem_(problem),
        spec_(problem.spec),
        slot_(problem.slot),
        first_keys_(problem.documents ? values_of(problem.first_key) : Values(size_t(spec_.shape.B * spec_.shape.T))),
        qkv_(values_of(problem.qkv)),
        key_bias_(values_of(problem.key_bias)),
        value_bias_(values_of(problem.value_bias)),
        score_(reference_of(spec_.score)) {
    for (int64_t h = 0; h < spec_.shape.H; ++h) learned_.push_back(problem.learned_of_head(h));
  }

  // The place at which row i's document begins.
  int64_t document(int64_t b, int64_t i) const { return int64_t(first_keys_[size_t(b * spec_.shape.T + place(b, i))]); }
  // Of the first key that row i sees: of its document, or of its window.
  int64_t first_key(int64_t b, int64_t i) const { return place(b, seen(b, i).front()); }

  // The rows of the keys that row i sees, by place; its own is the last where rows do not see both sides.
  std::vector<int64_t> seen(int64_t b, int64_t i) const {
    std::vector<int64_t> out;
    for (int64_t at = document(b, i), last = problem_.ordered ? place(b, i) : problem_.last_key_of(b, i); at <= last;
         ++at) {
      const int64_t j = problem_.ordered ? problem_.in_order(OrderPlane::kRow, b, at) : at;
      if (is_in_window(b, i, j)) out.push_back(j);
    }
    return out;
  }

  ReferenceRow row(int64_t b, int64_t h, int64_t i) const {
    ReferenceRow out;
    const std::vector<int64_t> keys = seen(b, i);
    const auto add = [&](const double* k) {
      double score = 0, size = 0;
      for (int64_t d = 0; d < spec_.shape.D_qk; ++d) {
        const double product = query(b, h, i)[d] * k[d];
        score += product, size += std::fabs(product);
      }
      out.scores.push_back(spec_.scale * score);
      out.sizes.push_back(spec_.scale * size);
    };
    if (slot_ != Slot::kNone) add(&key_bias_[size_t(group(h) * spec_.shape.D_qk)]);
    for (const int64_t j : keys) add(key(b, h, j));
    const ScoreRow row{out.scores, double(keys.size()), learned_[size_t(h)], spec_.constants};
    out.weights = score_.weights(row);
    std::tie(out.reference, out.inverse) = score_.stats(row);
    return out;
  }

  double stretch() const { return score_.stretch(spec_.constants); }

  // O_i [D_v]
  Values output(int64_t b, int64_t h, int64_t i, const ReferenceRow& row) const {
    Values out(size_t(spec_.shape.D_v));
    const size_t slots = slot_ != Slot::kNone;
    const std::vector<int64_t> keys = seen(b, i);
    for (int64_t d = 0; d < spec_.shape.D_v; ++d) {
      if (slot_ == Slot::kKeyValue)
        out[size_t(d)] +=
            row.weights[0] * kept(b, h, i, kSlotKey) * value_bias_[size_t(group(h) * spec_.shape.D_v + d)];
      for (size_t j = 0; j < keys.size(); ++j)
        out[size_t(d)] += row.weights[slots + j] * kept(b, h, i, keys[j]) * value(b, h, keys[j])[d];
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

  // [N, H*D_v]
  Values outputs() const {
    const auto [B, T, H, KV, D_qk, D] = spec_.shape;
    Values out(size_t(B * T * H * D));
    for_rows([&, T = T, H = H, D = D](int64_t b, int64_t h, int64_t i) {
      const Values o = output(b, h, i, row(b, h, i));
      std::copy(o.begin(), o.end(), out.begin() + ((b * T + i) * H + h) * D);
    });
    return out;
  }

  // What dropout multiplies the weight of row i and the key in row j with; j kSlotKey: of the bias slot.
  static constexpr int64_t kSlotKey = 8 * int64_t{0xfffffff8};
  double kept(int64_t b, int64_t h, int64_t i, int64_t j) const {
    return problem_.dropped > 0 ? dropout_factor(problem_.dropout(), b, h, i, j) : 1;
  }

 private:
  int64_t place(int64_t b, int64_t i) const {
    return problem_.ordered ? problem_.in_order(OrderPlane::kPlace, b, i) : i;
  }
  bool is_in_window(int64_t b, int64_t i, int64_t j) const {
    if (!problem_.ordered) return spec_.window == 0 || std::abs(i - j) < spec_.window;
    return j >= problem_.in_order(OrderPlane::kBegin, b, i) && j < problem_.in_order(OrderPlane::kEnd, b, i);
  }
  int64_t group(int64_t h) const { return h / (spec_.shape.H / spec_.shape.KV); }
  const double* at(int64_t b, int64_t i, int64_t column) const {
    return &qkv_[size_t((b * spec_.shape.T + i) * spec_.shape.heads().projected_columns() + column)];
  }
  const double* query(int64_t b, int64_t h, int64_t i) const { return at(b, i, h * spec_.shape.D_qk); }
  const double* key(int64_t b, int64_t h, int64_t j) const {
    return at(b, j, spec_.shape.heads().query_columns() + group(h) * spec_.shape.D_qk);
  }
  const double* value(int64_t b, int64_t h, int64_t j) const {
    const HeadSizes heads = spec_.shape.heads();
    return at(b, j, heads.query_columns() + heads.key_columns() + group(h) * heads.D_v);
  }

  AttentionCase problem_;
  AttentionSpec spec_;
  Slot slot_;
  Values first_keys_, qkv_, key_bias_, value_bias_;
  std::vector<LearnedOfHead<double>> learned_;
  ScoreReference score_;
};

}  // namespace sluice
