// The score function threshold: its plain formula for the tests that walk the list, and what is special about it.
#include "kernels/attention_bounds.h"

namespace sluice {
namespace {

using Constants = Threshold::Constants<double>;

double threshold(const ScoreRow& row) {
  const Constants c = row.constants<Threshold>();
  return c.beta * std::sqrt(2 * std::log(row.length) / c.features);
}

}  // namespace

SLUICE_SCORE_REFERENCE(Threshold, {.weights =
                                       [](const ScoreRow& row) {
                                         Values p;
                                         for (const double s : row.s)
                                           p.push_back(std::pow(std::fmax(0, s - threshold(row)), 2));
                                         return p;
                                       },
                                   .stats =
                                       [](const ScoreRow& row) {
                                         return std::pair{threshold(row), 1.0};
                                       },
                                   .unusual = pack_constants(Constants{.beta = 0.7, .features = 16}),
                                   .stretch = [](const ScoreConstants&) { return 1.0; }})

namespace {

// With a threshold of 0 weights are squares: what relu gives, times the score and the row's length.
TEST(Threshold, WithoutAThresholdIsTheSquareOfRelu) {
  const AttentionShape shape = {2, 70, 2, 1, 16, 16};
  AttentionCase run(kind_of<Threshold>, shape, Slot::kKeyValue, DType::kF64);
  run.randomise();
  run.spec.constants = pack_constants(Constants{.beta = 0, .features = 16});
  AttentionCase relu(kind_of<ReluScore>, shape, Slot::kKeyValue, DType::kF64);
  relu.randomise();
  const AttentionReference squares(run), plain(relu);
  squares.for_rows([&](int64_t b, int64_t h, int64_t i) {
    const ReferenceRow got = squares.row(b, h, i), want = plain.row(b, h, i);
    for (size_t j = 0; j < got.weights.size(); ++j)
      EXPECT_NEAR(got.weights[j], std::pow(want.weights[j] * double(i + 1), 2), 1e-14);
  });
  run.forward(widest());
  EXPECT_LE(distance(values_of(run.out), squares.outputs()), 1e-12 * norm_of(squares.outputs()));
}

// The first row's threshold is 0; it grows with the row's length, and a document begins anew.
TEST(Threshold, GrowsWithTheRow) {
  const Constants c{.beta = 2, .features = 50};
  const LearnedOfHead<double> none{};
  EXPECT_EQ(Threshold::start(0.0, none, c).reference, 0);
  for (const double row : {1.0, 9.0, 1023.0})
    EXPECT_NEAR(Threshold::start(row, none, c).reference, 2 * std::sqrt(2 * std::log(row + 1) / 50), 1e-15) << row;
}

// Of unit vectors at random hardly any product is above beta = 1's threshold: of n products the largest is about there.
TEST(Threshold, LeavesOutWhatChanceBrings) {
  constexpr AttentionShape shape = {1, 300, 4, 4, 64, 64};
  AttentionCase run(kind_of<Threshold>, shape, Slot::kNone, DType::kF64);
  const int64_t cols = shape.heads().projected_columns();
  for (int64_t row = 0; row < shape.T; ++row)
    for (int64_t head = 0; head < shape.H + shape.KV; ++head) {
      Values x(size_t(shape.D_qk));
      for (size_t d = 0; d < x.size(); ++d)
        for (uint64_t k = 0; k < 4; ++k) x[d] += random_unit(60 + k, uint64_t((row * cols + head) * 64) + d);
      for (size_t d = 0; d < x.size(); ++d) run.qkv.set(row * cols + head * shape.D_qk + int64_t(d), x[d] / norm_of(x));
    }
  run.spec.scale = 1;
  run.spec.constants = pack_constants(Constants{.beta = 1, .features = 64});
  const AttentionReference reference(run);
  int64_t kept = 0, rows = 0;
  reference.for_rows([&](int64_t b, int64_t h, int64_t i) {
    if (i < 10) return;
    for (const double p : reference.row(b, h, i).weights) kept += p > 0;
    ++rows;
  });
  EXPECT_GT(double(kept) / double(rows), 0.05);
  EXPECT_LT(double(kept) / double(rows), 1);
}

}  // namespace
}  // namespace sluice
