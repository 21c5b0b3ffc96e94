// The score function elastic_softmax: its plain formula for the tests that walk the list, and what is special about it.
#include "kernels/attention_bounds.h"

namespace sluice {
namespace {

Values softmax(const Values& s) {
  double sum = 0;
  for (const double score : s) sum += std::exp(score);
  Values out;
  for (const double score : s) out.push_back(std::exp(score) / sum);
  return out;
}

// Weights of a softmax in units of 1 / n, n their row's length, have a kink at -tau of their head: tau is moved to the
// middle of the widest gap, as a ratio, among those of the head between 1/20 and 2, documents packed or not.
void cut_in_a_gap(AttentionCase& problem) {
  AttentionCase plain = problem;
  plain.spec.score = kind_of<Softmax>;
  std::vector<Values> shares(size_t(problem.spec.shape.H), Values{0.05, 2.0});
  with_and_without_masks(plain, [&](const AttentionCase& one) {
    const AttentionReference reference(one);
    reference.for_rows([&](int64_t b, int64_t h, int64_t i) {
      const double length = double(reference.seen(b, i).size());
      for (const double p : reference.row(b, h, i).weights)
        if (p * length > 0.05 && p * length < 2) shares[size_t(h)].push_back(p * length);
    });
  });
  for (size_t h = 0; h < shares.size(); ++h) {
    Values& share = shares[h];
    std::sort(share.begin(), share.end());
    double ratio = 1;
    for (size_t i = 1; i < share.size(); ++i)
      if (share[i] / share[i - 1] > ratio) {
        ratio = share[i] / share[i - 1];
        problem.learned[0].set(int64_t(h), -std::sqrt(share[i] * share[i - 1]));
      }
  }
}

}  // namespace

SLUICE_SCORE_REFERENCE(ElasticSoftmax, {.weights =
                                            [](const ScoreRow& row) {
                                              Values p = softmax(row.s);
                                              for (double& x : p) x = std::fmax(0, x + row.learned.at[0] / row.length);
                                              return p;
                                            },
                                        .stats =
                                            [](const ScoreRow& row) {
                                              const double m = *std::max_element(row.s.begin(), row.s.end());
                                              double sum = 0;
                                              for (const double s : row.s) sum += std::exp(s - m);
                                              return std::pair{m + std::log(sum), row.learned.at[0] / row.length};
                                            },
                                        .stretch = [](const ScoreConstants&) { return 1.0; },
                                        .avoid_kinks = cut_in_a_gap,
                                        .log_sums = true})

namespace {

constexpr AttentionShape kShape = {2, 130, 4, 2, 20, 24};

void set_offsets(AttentionCase& run, double tau) {
  for (int64_t h = 0; h < run.learned[0].size(); ++h) run.learned[0].set(h, tau);
}

// Of an offset of 0 nothing is left but the rounding of a row's log-sum-exp.
TEST(ElasticSoftmax, AtOffsetsOfZeroIsSoftmax) {
  for (const Slot slot : kSlots) {
    AttentionCase elastic(kind_of<ElasticSoftmax>, kShape, slot, DType::kF64);
    elastic.randomise();
    set_offsets(elastic, 0);
    with_and_without_masks(elastic, [&](AttentionCase& run) {
      AttentionCase plain(kind_of<Softmax>, kShape, slot, DType::kF64);
      if (run.documents) plain.pack_documents();
      plain.spec.window = run.spec.window;
      plain.ordered = run.ordered, plain.order = run.order;
      plain.both_sides = run.both_sides, plain.last_key = run.last_key;
      plain.randomise().forward(widest()).backward(widest());
      run.forward(widest()).backward(widest());
      EXPECT_LE(distance(values_of(run.out), values_of(plain.out)), 1e-13 * norm_of(values_of(plain.out)));
      EXPECT_LE(distance(values_of(run.d_qkv), values_of(plain.d_qkv)), 1e-13 * norm_of(values_of(plain.d_qkv)));
    });
  }
}

// At the initial offset of -1 evenly spread weights are at the edge, and keys of less than the mean have none.
TEST(ElasticSoftmax, LeavesOutKeysBelowTheMean) {
  EXPECT_EQ(ElasticSoftmax::kLearned.list[0].initial, -1);
  AttentionCase run(kind_of<ElasticSoftmax>, kShape, Slot::kNone, DType::kF64);
  run.randomise();
  set_offsets(run, -1);
  const AttentionReference reference(run);
  int64_t zeros = 0, all = 0;
  reference.for_rows([&](int64_t b, int64_t h, int64_t i) {
    const ReferenceRow row = reference.row(b, h, i);
    const Values p = softmax(row.scores);
    for (size_t j = 0; j < p.size(); ++j) {
      EXPECT_NEAR(row.weights[j], std::fmax(0, p[j] - 1 / double(p.size())), 1e-15);
      zeros += row.weights[j] == 0;
      ++all;
    }
  });
  EXPECT_GT(double(zeros) / double(all), 0.5);
  run.forward(widest());
  EXPECT_LE(distance(values_of(run.out), reference.outputs()), 1e-12 * norm_of(reference.outputs()));
}

// Above the offset nothing is cut: the weights of a row sum to 1 + tau, and the gradient of tau is that of the mean of
// the values that a row sees.
TEST(ElasticSoftmax, APositiveOffsetAddsTheMeanOfTheValues) {
  constexpr double kTau = 0.5;
  AttentionCase run(kind_of<ElasticSoftmax>, kShape, Slot::kNone, DType::kF64);
  run.randomise();
  set_offsets(run, kTau);
  run.forward(widest()).backward(widest());
  AttentionCase plain(kind_of<Softmax>, kShape, Slot::kNone, DType::kF64);
  plain.randomise().forward(widest());
  const auto& [B, T, H, KV, D, D_v] = kShape;
  const int64_t first_value = (H + KV) * D;
  for (int64_t h = 0; h < H; ++h) {
    double slope = 0;
    for (int64_t b = 0; b < B; ++b) {
      Values mean(size_t(D_v), 0.0);
      for (int64_t i = 0; i < T; ++i)
        for (int64_t d = 0; d < D_v; ++d) {
          double& here = mean[size_t(d)];
          here += (run.qkv.at(b * T + i, first_value + h / (H / KV) * D_v + d) - here) / double(i + 1);
          const int64_t at = ((b * T + i) * H + h) * D_v + d;
          EXPECT_NEAR(run.out.at(at), plain.out.at(at) + kTau * here, 1e-13);
          slope += run.d_out.at(at) * here;
        }
    }
    EXPECT_NEAR(run.d_learned[0].at(h), slope, 1e-11);
  }
}

}  // namespace
}  // namespace sluice
