// The plain formulas of the score functions (score_reference.h).
#include "kernels/attention_bounds.h"

namespace sluice {
namespace {

// body(s) of every score.
template <class Body>
Values each(const Values& s, Body body) {
  Values p(s.size());
  std::transform(s.begin(), s.end(), p.begin(), body);
  return p;
}

double largest(const Values& s) { return *std::max_element(s.begin(), s.end()); }

double sum_of_exponentials(const Values& s, double m = 0) {
  double sum = 0;
  for (const double score : s) sum += std::exp(score - m);
  return sum;
}

Values softmax(const Values& s, double extra = 0) {
  const double sum = extra + sum_of_exponentials(s);
  return each(s, [&](double score) { return std::exp(score) / sum; });
}

// Of a softmax with a sink of logit b.
std::pair<double, double> stats_with_sink(const Values& s, double b) {
  const double m = std::max(b, largest(s));
  return {m, 1 / (std::exp(b - m) + sum_of_exponentials(s, m))};
}

std::pair<double, double> softmax_stats(const ScoreRow& row) {
  const double m = largest(row.s);
  return {m, 1 / sum_of_exponentials(row.s, m)};
}

// The largest gap, as a ratio, between neighbours among the softmax weights in [0.005, 0.5]; its middle.
double widest_gap(const AttentionCase& problem) {
  AttentionCase plain = problem;
  plain.spec.score = kind_of<Softmax>;
  const AttentionReference reference(plain);
  Values weights = {0.005, 0.5};
  reference.for_rows([&](int64_t b, int64_t h, int64_t i) {
    for (const double p : reference.row(b, h, i).weights)
      if (p > 0.005 && p < 0.5) weights.push_back(p);
  });
  std::sort(weights.begin(), weights.end());
  double ratio = 1, middle = 0.05;
  for (size_t i = 1; i < weights.size(); ++i)
    if (weights[i] / weights[i - 1] > ratio)
      ratio = weights[i] / weights[i - 1], middle = std::sqrt(weights[i] * weights[i - 1]);
  return middle;
}

using Stretch = ClippedSoftmax::Constants<double>;

void clip_in_a_gap(AttentionCase& problem) {
  Stretch constants = unpack_constants<Stretch>(problem.spec.constants);
  const double kink = widest_gap(problem);  // weights below it are clipped to 0
  constants.gamma = -kink * constants.zeta / (1 - kink);
  problem.spec.constants = pack_constants(constants);
}

}  // namespace

SLUICE_SCORE_REFERENCE(Softmax, {.weights = [](const ScoreRow& row) { return softmax(row.s); }, .stats = softmax_stats})

SLUICE_SCORE_REFERENCE(SoftmaxPlusOne, {.weights = [](const ScoreRow& row) { return softmax(row.s, 1); },
                                        .stats = [](const ScoreRow& row) { return stats_with_sink(row.s, 0); }})

SLUICE_SCORE_REFERENCE(SinkLogit,
                       {.weights = [](const ScoreRow& row) { return softmax(row.s, std::exp(row.learned.at[0])); },
                        .stats = [](const ScoreRow& row) { return stats_with_sink(row.s, row.learned.at[0]); }})

SLUICE_SCORE_REFERENCE(Sigmoid, {.weights =
                                     [](const ScoreRow& row) {
                                       const auto c = row.constants<Sigmoid>();
                                       const double shift = c.bias - (c.minus_log_length ? std::log(row.length) : 0);
                                       return each(row.s, [&](double s) { return 1 / (1 + std::exp(-(s + shift))); });
                                     },
                                 .stats =
                                     [](const ScoreRow& row) {
                                       const bool minus_log = row.constants<Sigmoid>().minus_log_length;
                                       return std::pair{minus_log ? std::log(row.length) : 0.0, 1.0};
                                     },
                                 .unusual = pack_constants(Sigmoid::Constants<double>{-0.7, true})})

SLUICE_SCORE_REFERENCE(ReluScore, {.weights =
                                       [](const ScoreRow& row) {
                                         return each(row.s, [&](double s) { return s > 0 ? s / row.length : 0; });
                                       },
                                   .stats =
                                       [](const ScoreRow& row) {
                                         return std::pair{0.0, 1 / row.length};
                                       }})

SLUICE_SCORE_REFERENCE(ClippedSoftmax, {.weights =
                                            [](const ScoreRow& row) {
                                              const auto c = row.constants<ClippedSoftmax>();
                                              return each(softmax(row.s), [&](double p) {
                                                return std::fmin(1, std::fmax(0, (c.zeta - c.gamma) * p + c.gamma));
                                              });
                                            },
                                        .stats = softmax_stats,
                                        .unusual = pack_constants(Stretch{.gamma = -0.04, .zeta = 1.1}),
                                        .stretch =
                                            [](const ScoreConstants& packed) {
                                              const auto c = unpack_constants<Stretch>(packed);
                                              return c.zeta - c.gamma;
                                            },
                                        .avoid_kinks = clip_in_a_gap})

SLUICE_SCORE_REFERENCE(Softpick, {.weights =
                                      [](const ScoreRow& row) {
                                        double sum = row.constants<Softpick>().epsilon;
                                        for (const double s : row.s) sum += std::fabs(std::expm1(s));
                                        return each(row.s, [&](double s) { return s > 0 ? std::expm1(s) / sum : 0; });
                                      },
                                  .stats =
                                      [](const ScoreRow& row) {
                                        const double m = std::max(0.0, largest(row.s));
                                        double sum = row.constants<Softpick>().epsilon;
                                        for (const double s : row.s) sum += std::fabs(std::expm1(s));
                                        return std::pair{m, std::exp(m) / sum};
                                      },
                                  .unusual = pack_constants(Softpick::Constants<double>{0.125})})

}  // namespace sluice
