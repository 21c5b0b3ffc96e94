// The score function taylor2: its plain formula for the tests that walk the list, and what is special about it.
#include <numeric>

#include "kernels/attention_reference.h"

namespace sluice {
namespace {

double polynomial(double s) { return 1 + s + s * s / 2; }

double sum_of(const Values& s) {
  return std::accumulate(s.begin(), s.end(), 0.0, [](double sum, double score) { return sum + polynomial(score); });
}

}  // namespace

SLUICE_SCORE_REFERENCE(Taylor2, {.weights =
                                     [](const ScoreRow& row) {
                                       Values p;
                                       for (const double s : row.s) p.push_back(polynomial(s) / sum_of(row.s));
                                       return p;
                                     },
                                 .stats =
                                     [](const ScoreRow& row) {
                                       return std::pair{0.0, 1 / sum_of(row.s)};
                                     }})

namespace {

TEST(Taylor2, ScoresOfZeroGiveTheMeanOfTheValues) {
  const AttentionShape shape = {1, 70, 1, 1, 16, 16};
  for_kernels([&](const IsaKernels& isa, DType act) {
    AttentionCase run(kind_of<Taylor2>, shape, Slot::kNone, act);
    run.randomise(0).forward(isa);
    Values sums(size_t(shape.D_v));
    for (int64_t i = 0; i < shape.T; ++i)
      for (int64_t d = 0; d < shape.D_v; ++d) {
        sums[size_t(d)] += run.qkv.at(i, 2 * shape.D_qk + d);
        const double mean = sums[size_t(d)] / double(i + 1);
        EXPECT_NEAR(run.out.at(i, d), mean, rounding_of(act) * std::fabs(mean) + 1e-5)
            << "row " << i << " feature " << d;
      }
  });
}

// The polynomial's smallest value is 1/2, at a score of -1: a key is never left out, and far below it weights grow
// again.
TEST(Taylor2, EveryKeyKeepsAWeight) {
  const NoConstants<double> none;
  EXPECT_EQ(Taylor2::weight(-1.0, 0.0, none), 0.5);
  for (const double s : {-1e3, -3.0, -1.1, -0.9, 0.0, 2.0}) {
    EXPECT_GT(Taylor2::weight(s, 0.0, none), 0.5) << s;
    EXPECT_NEAR(Taylor2::weight(s, 0.0, none), polynomial(s), 1e-9 * polynomial(s)) << s;
  }
  EXPECT_GT(Taylor2::weight(-5.0, 0.0, none), Taylor2::weight(1.0, 0.0, none));
}

}  // namespace
}  // namespace sluice
