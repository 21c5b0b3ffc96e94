#include "measure/attention_weights.h"

#include "kernels/formulas/scores/registry.h"
#include "measure/host_copy.h"

namespace sluice {
namespace {

// Weights of one row from its scores, in their place; `slot` is the key bias's score, if there is one, and becomes its weight.
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
  const auto probability = [&](double s) { return Score::probability(s, row.reference, 1 / row.mass, constants); };
  if (slot) *slot = probability(*slot);
  for (int64_t j = 0; j < count; ++j) scores[j] = probability(scores[j]);
}

// k [positions, D] with its rows as columns, so that a query's scores are sums of whole rows.
std::vector<double> transposed(const float* k, int64_t stride, int64_t positions, int64_t D) {
  std::vector<double> out(size_t(D * positions));
  for (int64_t j = 0; j < positions; ++j)
    for (int64_t d = 0; d < D; ++d) out[size_t(d * positions + j)] = k[j * stride + d];
  return out;
}

}  // namespace

HeadWeights head_weights(const HeadScores& in, int64_t positions) {
  const AttentionSpec& spec = in.spec;
  const int64_t D = spec.shape.D;
  const std::vector<double> keys = transposed(in.k, in.k_stride, positions, D);
  HeadWeights out;
  out.rows.resize(size_t(positions * positions));
  if (in.key_bias) out.key_bias.resize(size_t(positions));
  for (int64_t i = 0; i < positions; ++i) {
    const float* q = in.q + i * in.q_stride;
    const int64_t first = in.first_key ? in.first_key[i] : 0;
    double* scores = out.rows.data() + i * positions;
    for (int64_t d = 0; d < D; ++d) {
      const double scaled = spec.scale * q[d];
      const double* key = keys.data() + d * positions;
      for (int64_t j = first; j <= i; ++j) scores[j] += scaled * key[j];
      if (in.key_bias) out.key_bias[size_t(i)] += scaled * in.key_bias[d];
    }
    double* slot = in.key_bias ? &out.key_bias[size_t(i)] : nullptr;
    ScoreFunctions::dispatch(spec.score, [&](auto score) {
      row_weights<decltype(score)>(scores + first, i + 1 - first, slot, in);
    });
  }
  return out;
}

LearnedOnHost::LearnedOnHost(Backend& backend, const LearnedTensors& learned) {
  for (int i = 0; i < kMostLearned; ++i)
    if (learned.at[i]) values_[i] = host_copy(backend, learned.at[i]);
}

LearnedOfHead<double> LearnedOnHost::of(int64_t head) const {
  LearnedOfHead<double> out{};
  for (int i = 0; i < kMostLearned; ++i)
    if (!values_[i].empty()) out.at[i] = double(values_[i][size_t(head)]);
  return out;
}

std::vector<std::vector<double>> attention_weights(Backend& backend, const AttentionForward& run, int64_t head,
                                                   int64_t positions) {
  const AttentionSpec& spec = run.spec;
  const int64_t D = spec.shape.D, kv = head / (spec.shape.H / spec.shape.KV);
  const std::vector<float> q = host_copy(backend, run.q.columns(head * D, D).row_range(0, positions));
  const std::vector<float> k = host_copy(backend, run.k.columns(kv * D, D).row_range(0, positions));
  const std::vector<float> bias = run.key_bias ? host_copy(backend, run.key_bias) : std::vector<float>{};
  std::vector<int32_t> first_keys(size_t(run.first_key ? positions : 0));
  if (run.first_key)
    backend.download(first_keys.data(), run.first_key.reshaped({run.first_key.elements(), 1}).row_range(0, positions));
  const HeadWeights weights = head_weights({.spec = spec,
                                            .q = q.data(),
                                            .q_stride = D,
                                            .k = k.data(),
                                            .k_stride = D,
                                            .key_bias = bias.empty() ? nullptr : bias.data() + kv * D,
                                            .learned = LearnedOnHost(backend, run.learned).of(head),
                                            .first_key = run.first_key ? first_keys.data() : nullptr},
                                           positions);
  std::vector<std::vector<double>> rows;
  for (int64_t i = 0; i < positions; ++i) {
    const double* row = weights.rows.data() + i * positions;
    rows.emplace_back(row, row + i + 1);
  }
  return rows;
}

bool is_normalised(ScoreKind kind) {
  bool out = true;
  ScoreFunctions::dispatch(kind, [&](auto score) { out = decltype(score)::kNormalised; });
  return out;
}

}  // namespace sluice
