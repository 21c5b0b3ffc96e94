#include "model/attention/cores/tile_weights.h"

#include <algorithm>

#include "kernels/formulas/scores/registry.h"
#include "kernels/host_copy.h"

namespace sluice {
namespace {

// Weights of one row from its scores, in their place; `slot` is the key bias's score, if there is one, and becomes its
// weight.
template <class Score>
void row_weights(double* scores, int64_t count, double* slot, const HeadScores& in) {
  const auto constants = constants_of<Score, double>(in.spec);
  RowStart<double> row = Score::template start<double>(double(count - 1), in.learned, constants);
  const auto absorb = [&](double s) {
    if (Score::kRunningMax && s > row.reference) {
      row.mass *= exp_of(row.reference - s);
      row.reference = s;
    }
    row.mass += Score::mass(s, row.reference, Score::weight(s, row.reference, constants), constants);
  };
  if (slot) absorb(*slot);
  for (int64_t j = 0; j < count; ++j) absorb(scores[j]);
  const RowStats<double> stats = Score::finish(row.reference, row.mass, double(count - 1), in.learned, constants);
  const auto probability = [&](double s) { return Score::probability(s, stats.reference, stats.inverse, constants); };
  if (slot) *slot = probability(*slot);
  for (int64_t j = 0; j < count; ++j) scores[j] = probability(scores[j]);
}

// k [positions, D] with its rows as columns, so that a query's scores are sums of whole rows.
std::vector<double> transposed(const double* k, int64_t stride, int64_t positions, int64_t D) {
  std::vector<double> out(size_t(D * positions));
  for (int64_t j = 0; j < positions; ++j)
    for (int64_t d = 0; d < D; ++d) out[size_t(d * positions + j)] = k[j * stride + d];
  return out;
}

}  // namespace

HeadWeights head_scores(const HeadScores& in, int64_t positions) {
  const AttentionSpec& spec = in.spec;
  const int64_t D = spec.shape.D_qk;
  const std::vector<double> keys = transposed(in.k, in.k_stride, positions, D);
  HeadWeights out;
  out.rows.resize(size_t(positions * positions));
  if (in.key_bias) out.key_bias.resize(size_t(positions));
  for (int64_t i = 0; i < positions; ++i) {
    const double* q = in.q + i * in.q_stride;
    const int64_t first = in.first_of(i), end = in.end_of(i);
    double* scores = out.rows.data() + i * positions;
    for (int64_t d = 0; d < D; ++d) {
      const double scaled = spec.scale * q[d];
      const double* key = keys.data() + d * positions;
      for (int64_t j = first; j < end; ++j) scores[j] += scaled * key[j];
      if (in.key_bias) out.key_bias[size_t(i)] += scaled * in.key_bias[d];
    }
  }
  return out;
}

std::vector<double> seen_of(const HeadScores& in, const double* row, int64_t i) {
  std::vector<double> out;
  for (int64_t j = in.first_of(i); j < in.end_of(i); ++j)
    if (in.slots.join(i, j)) out.push_back(row[j]);
  return out;
}

void put_seen(const HeadScores& in, const std::vector<double>& seen, double* row, int64_t i) {
  for (int64_t j = in.first_of(i), at = 0; j < in.end_of(i); ++j) row[j] = in.slots.join(i, j) ? seen[size_t(at++)] : 0;
}

void weigh(const HeadScores& in, int64_t positions, HeadWeights& scores) {
  for (int64_t i = 0; i < positions; ++i) {
    double* row = scores.rows.data() + i * positions;
    double* slot = in.key_bias ? &scores.key_bias[size_t(i)] : nullptr;
    std::vector<double> seen = seen_of(in, row, i);
    ScoreFunctions::dispatch(
        in.spec.score, [&](auto score) { row_weights<decltype(score)>(seen.data(), int64_t(seen.size()), slot, in); });
    put_seen(in, seen, row, i);
  }
}

HostTiles::HostTiles(Backend& backend, const AttentionForward& run, const SlotWindows& slots)
    : spec_(run.spec),
      slots_(slots),
      q_(host_numbers(backend, run.q)),
      k_(host_numbers(backend, run.k)),
      key_bias_(run.key_bias ? host_numbers(backend, run.key_bias) : std::vector<double>{}),
      first_key_(size_t(run.first_key ? run.first_key.elements() : 0)),
      last_key_(size_t(run.last_key ? run.last_key.elements() : 0)) {
  if (run.first_key) backend.download(first_key_.data(), run.first_key);
  if (run.last_key) backend.download(last_key_.data(), run.last_key);
  for (int i = 0; i < kMostLearned; ++i)
    if (run.learned.at[i]) learned_[i] = host_numbers(backend, run.learned.at[i]);
}

HeadScores HostTiles::head(int64_t sequence, int64_t head) const {
  const auto& [B, T, H, KV, D, D_v] = spec_.shape;
  const int64_t kv = head / (H / KV);
  HeadScores out{.spec = spec_,
                 .q = q_.data() + (sequence * T * H + head) * D,
                 .q_stride = H * D,
                 .k = k_.data() + (sequence * T * KV + kv) * D,
                 .k_stride = KV * D,
                 .key_bias = key_bias_.empty() ? nullptr : key_bias_.data() + kv * D,
                 .first_key = first_key_.empty() ? nullptr : first_key_.data() + sequence * T,
                 .last_key = last_key_.empty() ? nullptr : last_key_.data() + sequence * T,
                 .slots = slots_};
  for (int i = 0; i < kMostLearned; ++i)
    if (!learned_[i].empty()) out.learned.at[i] = learned_[i][size_t(head)];
  return out;
}

namespace {

// The first `kept` rows, on the first so many keys.
void keep_first(HeadWeights& weights, int64_t rows, int64_t kept) {
  for (int64_t i = 1; i < kept; ++i)
    std::copy_n(weights.rows.begin() + i * rows, kept, weights.rows.begin() + i * kept);
  weights.rows.resize(size_t(kept * kept));
  if (!weights.key_bias.empty()) weights.key_bias.resize(size_t(kept));
}

class HostTileWeights final : public HostWeights {
 public:
  HostTileWeights(Backend& backend, const AttentionForward& run, const SlotWindows& slots)
      : tiles_(backend, run, slots) {}

  HeadWeights of(int64_t sequence, int64_t head, int64_t positions) const override {
    const HeadScores of_head = tiles_.head(sequence, head);
    // Where rows see keys behind them, the first rows' weights need these.
    const int64_t rows = of_head.last_key ? tiles_.positions() : positions;
    HeadWeights out = head_scores(of_head, rows);
    weigh(of_head, rows, out);
    if (positions < rows) keep_first(out, rows, positions);
    return out;
  }

 private:
  HostTiles tiles_;
};

}  // namespace

std::unique_ptr<HostWeights> read_tile_weights(Backend& backend, const AttentionForward& run,
                                               const SlotWindows& slots) {
  return std::make_unique<HostTileWeights>(backend, run, slots);
}

bool is_normalised(ScoreKind kind) {
  bool out = true;
  ScoreFunctions::dispatch(kind, [&](auto score) { out = decltype(score)::kNormalised; });
  return out;
}

}  // namespace sluice
