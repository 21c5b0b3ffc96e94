#include "analysis/attention_weights.h"

#include "analysis/host_copy.h"
#include "kernels/formulas/scores/registry.h"

namespace sluice {
namespace {

// Weights of one row from its scores; `slot` is the key bias's score, if there is one.
template <class Score>
std::vector<double> row_weights(const std::vector<double>& scores, const double* slot, double sink,
                                const ScoreValues<double>& constants) {
  RowStart<double> row = Score::template start<double>(double(scores.size() - 1), sink, constants);
  const auto absorb = [&](double s) {
    if (Score::kRunningMax && s > row.reference) {
      row.mass *= exp_of(row.reference - s);
      row.reference = s;
    }
    row.mass += Score::mass(s, row.reference, Score::weight(s, row.reference, constants), constants);
  };
  if (slot) absorb(*slot);
  for (const double s : scores) absorb(s);
  std::vector<double> weights;
  for (const double s : scores) weights.push_back(Score::probability(s, row.reference, 1 / row.mass, constants));
  return weights;
}

double dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double(a[i]) * b[i];
  return sum;
}

}  // namespace

std::vector<std::vector<double>> attention_weights(Backend& backend, const AttentionForward& run, int64_t head,
                                                   int64_t positions) {
  const AttentionSpec& spec = run.spec;
  const int64_t D = spec.shape.D, kv = head / (spec.shape.H / spec.shape.KV);
  const std::vector<float> q = host_copy(backend, run.q.columns(head * D, D).row_range(0, positions));
  const std::vector<float> k = host_copy(backend, run.k.columns(kv * D, D).row_range(0, positions));
  const std::vector<float> bias = run.key_bias ? host_copy(backend, run.key_bias) : std::vector<float>{};
  const std::vector<float> sinks = run.sink_logit ? host_copy(backend, run.sink_logit) : std::vector<float>{};
  const ScoreValues<double> constants{spec.constants.bias, spec.constants.gamma, spec.constants.zeta,
                                      spec.constants.epsilon, spec.constants.bias_minus_log_length};
  std::vector<std::vector<double>> rows;
  for (int64_t i = 0; i < positions; ++i) {
    std::vector<double> scores;
    for (int64_t j = 0; j <= i; ++j) scores.push_back(spec.scale * dot(q.data() + i * D, k.data() + j * D, D));
    const double slot = bias.empty() ? 0 : spec.scale * dot(q.data() + i * D, bias.data() + kv * D, D);
    ScoreFunctions::dispatch(spec.score, [&](auto score) {
      rows.push_back(row_weights<decltype(score)>(scores, bias.empty() ? nullptr : &slot,
                                                  sinks.empty() ? 0 : double(sinks[size_t(head)]), constants));
    });
  }
  return rows;
}

}  // namespace sluice
