// Norms forward and backward, and bias gradients, against plain loops in double and finite differences.
#include "kernels/test_buffer.h"

namespace sluice {
namespace {

const std::vector<std::pair<int64_t, int64_t>> kShapes = {{1, 2}, {1, 64}, {3, 7}, {9, 129}, {33, 256}, {300, 100}};
constexpr double kEpsilon = 1e-5;
constexpr int64_t kWorkspacePerColumn = 128;

struct NormCase {
  TestBuffer x, delta, sum, gain, bias, out, stats;
  TestBuffer d_out, d_x, d_gain, d_bias, workspace;
  bool with_delta, with_bias;
  Norm kind = Norm::kLayerNorm;

  NormCase(DType dtype, int64_t N, int64_t C, bool with_delta, bool with_bias)
      : x(dtype, N, C),
        delta(dtype, N, C),
        sum(dtype, N, C),
        gain(accumulator_of(dtype), Shape{C}),
        bias(accumulator_of(dtype), Shape{C}),
        out(dtype, N, C),
        stats(accumulator_of(dtype), N, 2),
        d_out(dtype, N, C),
        d_x(dtype, N, C),
        d_gain(accumulator_of(dtype), Shape{C}),
        d_bias(accumulator_of(dtype), Shape{C}),
        workspace(DType::kF32, Shape{kWorkspacePerColumn * C}),
        with_delta(with_delta),
        with_bias(with_bias) {
    x.randomise(1), delta.randomise(2), gain.randomise(3), bias.randomise(4);
    for (int64_t i = 0; i < x.size(); ++i) x.set(i, x.at(i) + 3);
    d_out.randomise(5), d_x.randomise(6), d_gain.randomise(7), d_bias.randomise(8);
    workspace.randomise(9);
  }
  const TestBuffer& input() const { return with_delta ? sum : x; }
  NormForward forward() const {
    NormForward args;
    args.kind = kind;
    args.epsilon = kEpsilon;
    args.x = x;
    if (with_delta) args.delta = delta, args.sum = sum;
    args.gain = gain;
    if (with_bias) args.bias = bias;
    args.out = out;
    args.stats = stats;
    return args;
  }
  NormBackward backward(bool add_to_d_x, bool accumulate) const {
    NormBackward args;
    args.forward = forward();
    args.forward.x = input();
    args.forward.delta = args.forward.sum = Tensor{};
    args.d_out = d_out;
    args.d_x = d_x;
    args.add_to_d_x = add_to_d_x;
    args.d_gain = d_gain;
    if (with_bias) args.d_bias = d_bias;
    args.accumulate = accumulate;
    args.workspace = workspace;
    return args;
  }
  bool untouched() const {
    for (const TestBuffer* b : {&sum, &out, &stats, &d_x, &d_gain, &d_bias, &workspace})
      if (!b->untouched()) return false;
    return true;
  }
};

// RMSNorm has no bias.
const std::pair<Norm, bool> kKinds[] = {{Norm::kLayerNorm, false}, {Norm::kLayerNorm, true}, {Norm::kRmsNorm, false}};

struct RowStats {
  double mean = 0, rstd = 0;
};
RowStats stats_of(const TestBuffer& x, int64_t n, Norm kind) {
  const int64_t C = x.tensor().cols();
  RowStats out;
  double variance = 0;
  if (kind == Norm::kLayerNorm)
    for (int64_t c = 0; c < C; ++c) out.mean += x.at(n, c) / double(C);
  for (int64_t c = 0; c < C; ++c) variance += (x.at(n, c) - out.mean) * (x.at(n, c) - out.mean) / double(C);
  out.rstd = 1 / std::sqrt(variance + kEpsilon);
  return out;
}

TEST(Norm, Forward) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    for (auto [N, C] : kShapes)
      for (int flags = 0; flags < 6; ++flags) {
        NormCase t(dtype, N, C, flags & 1, kKinds[flags / 2].second);
        t.kind = kKinds[flags / 2].first;
        isa.run(t.forward());
        for (int64_t n = 0; n < N; ++n) {
          const RowStats want = stats_of(t.input(), n, t.kind);
          ASSERT_TRUE(near_value(t.stats.at(n, 0), want.mean, accumulator_of(dtype), 8, 4));
          ASSERT_TRUE(near_value(t.stats.at(n, 1), want.rstd, accumulator_of(dtype), want.rstd * 8, 16));
          for (int64_t c = 0; c < C; ++c) {
            const double sum = t.with_delta ? t.x.at(n, c) + t.delta.at(n, c) : 0;  // unused, the sum stays zero
            ASSERT_TRUE(near_value(t.sum.at(n, c), sum, dtype, 8, 1));
            const double xhat = (t.input().at(n, c) - want.mean) * want.rstd;
            const double y = xhat * t.gain.at(c) + (t.with_bias ? t.bias.at(c) : 0);
            const double magnitude = (8 * want.rstd + std::fabs(xhat) + 1) * (1 + std::fabs(t.gain.at(c)));
            ASSERT_TRUE(near_value(t.out.at(n, c), y, dtype, magnitude, 16)) << N << "x" << C;
          }
        }
        EXPECT_TRUE(t.untouched());
      }
  });
}

TEST(Norm, TheSumMayReplaceX) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    NormCase apart(dtype, 11, 37, true, true), in_place(dtype, 11, 37, true, true);
    isa.run(apart.forward());
    NormForward args = in_place.forward();
    args.sum = args.x;
    isa.run(args);
    EXPECT_TRUE(in_place.x == apart.sum);
    EXPECT_TRUE(in_place.out == apart.out);
  });
}

TEST(Norm, SurvivesALargeMean) {
  for (const IsaKernels* isa : available_isas()) {
    NormCase t(DType::kF32, 4, 768, false, false);
    for (int64_t i = 0; i < t.x.size(); ++i) t.x.set(i, t.x.at(i) + 1000);
    isa->run(t.forward());
    for (int64_t n = 0; n < 4; ++n) EXPECT_NEAR(t.stats.at(n, 1), stats_of(t.x, n, t.kind).rstd, 1e-5);
  }
}

// What the backward pass should give, in double; `size_*` bound the magnitudes that were added up.
struct Expected {
  std::vector<double> d_x, size_x, d_gain, size_gain, d_bias, size_bias;
};
Expected backward_of(const NormCase& t) {
  const int64_t N = t.x.tensor().rows(), C = t.x.tensor().cols();
  Expected want;
  want.d_x.resize(size_t(N * C)), want.size_x.resize(size_t(N * C));
  for (auto* v : {&want.d_gain, &want.size_gain, &want.d_bias, &want.size_bias}) v->assign(size_t(C), 0.0);
  for (int64_t n = 0; n < N; ++n) {
    const RowStats s = stats_of(t.input(), n, t.kind);
    double mean_e = 0, mean_e_xhat = 0, size = 0;
    for (int64_t c = 0; c < C; ++c) {
      const double xhat = (t.input().at(n, c) - s.mean) * s.rstd, d = t.d_out.at(n, c), e = d * t.gain.at(c);
      if (t.kind == Norm::kLayerNorm) mean_e += e / double(C);
      mean_e_xhat += e * xhat / double(C);
      size += std::fabs(e) * (1 + std::fabs(xhat)) / double(C);
      want.d_gain[size_t(c)] += d * xhat,
          want.size_gain[size_t(c)] += std::fabs(d) * (1 + std::fabs(xhat) + 8 * s.rstd);
      want.d_bias[size_t(c)] += d, want.size_bias[size_t(c)] += std::fabs(d);
    }
    for (int64_t c = 0; c < C; ++c) {
      const double xhat = (t.input().at(n, c) - s.mean) * s.rstd, e = t.d_out.at(n, c) * t.gain.at(c);
      want.d_x[size_t(n * C + c)] = s.rstd * (e - mean_e - xhat * mean_e_xhat);
      want.size_x[size_t(n * C + c)] = s.rstd * (std::fabs(e) + size * (2 + std::fabs(xhat))) * (1 + 8 * s.rstd);
    }
  }
  return want;
}

TEST(Norm, Backward) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    const DType acc = accumulator_of(dtype);
    for (auto [N, C] : kShapes)
      for (int flags = 0; flags < 24; ++flags) {
        if (N * C > 2000 && flags % 8 != 0 && flags != 15) continue;  // every combination on small shapes only
        NormCase t(dtype, N, C, flags & 1, kKinds[flags / 8].second);
        t.kind = kKinds[flags / 8].first;
        const bool add = flags & 2, accumulate = flags & 4;
        isa.run(t.forward());
        const Expected want = backward_of(t);
        const TestBuffer d_x = t.d_x, d_gain = t.d_gain, d_bias = t.d_bias;
        isa.run(t.backward(add, accumulate));
        for (int64_t i = 0; i < t.x.size(); ++i) {
          const double before = add ? d_x.at(i) : 0;
          ASSERT_TRUE(near_value(t.d_x.at(i), want.d_x[size_t(i)] + before, dtype, want.size_x[size_t(i)] + 1, 40));
        }
        for (int64_t c = 0; c < C; ++c) {
          ASSERT_TRUE(near_value(t.d_gain.at(c), want.d_gain[size_t(c)] + (accumulate ? d_gain.at(c) : 0), acc,
                                 want.size_gain[size_t(c)] + 1, 20));
          const double bias = want.d_bias[size_t(c)] + (accumulate ? d_bias.at(c) : 0);
          ASSERT_TRUE(
              near_value(t.d_bias.at(c), t.with_bias ? bias : d_bias.at(c), acc, want.size_bias[size_t(c)] + 1, 20));
        }
        EXPECT_TRUE(t.untouched());
      }
  });
}

TEST(Norm, GradientsAreTheSlopes) {
  for (const IsaKernels* isa : available_isas())
    for (auto [kind, with_bias] : kKinds) {
      NormCase t(DType::kF64, 5, 19, false, with_bias);
      t.kind = kind;
      const auto loss = [&] {
        isa->run(t.forward());
        double total = 0;
        for (int64_t i = 0; i < t.out.size(); ++i) total += t.out.at(i) * t.d_out.at(i);
        return total;
      };
      loss();
      isa->run(t.backward(false, false));
      for (int64_t i = 0; i < t.x.size(); ++i) EXPECT_NEAR(t.d_x.at(i), slope(t.x, i, loss), 1e-8);
      for (int64_t c = 0; c < 19; ++c) {
        EXPECT_NEAR(t.d_gain.at(c), slope(t.gain, c, loss), 1e-8);
        if (!with_bias) continue;
        EXPECT_NEAR(t.d_bias.at(c), slope(t.bias, c, loss), 1e-8);
      }
    }
}

// The same bits, and gradients in the place of those of the result.
TEST(Norm, WithoutAGainIsThatWithAGainOfOnes) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    for (const Norm kind : {Norm::kLayerNorm, Norm::kRmsNorm})
      for (auto [N, C] : kShapes) {
        NormCase ones(dtype, N, C, false, false), without(dtype, N, C, false, false);
        ones.kind = without.kind = kind;
        for (int64_t c = 0; c < C; ++c) ones.gain.set(c, 1);
        NormForward forward = without.forward();
        forward.gain = Tensor{};
        isa.run(ones.forward()), isa.run(forward);
        NormBackward backward = without.backward(false, false);
        backward.forward.gain = backward.d_gain = Tensor{};
        backward.d_x = without.d_out;
        isa.run(ones.backward(false, false)), isa.run(backward);
        EXPECT_TRUE(without.out == ones.out && without.stats == ones.stats && without.d_out == ones.d_x);
      }
  });
}

TEST(Norm, ANanSpoilsItsRowAndNoOther) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    for (int64_t place : {0, 20, 32}) {
      NormCase t(dtype, 3, 33, false, true);
      t.x.set(33 + place, NAN);
      isa.run(t.forward());
      isa.run(t.backward(true, false));
      for (int64_t c = 0; c < 33; ++c) {
        EXPECT_FALSE(std::isnan(t.out.at(0, c)) || std::isnan(t.d_x.at(0, c)));
        EXPECT_TRUE(std::isnan(t.out.at(1, c)) && std::isnan(t.d_x.at(1, c)) && std::isnan(t.d_gain.at(c)));
        EXPECT_FALSE(std::isnan(t.out.at(2, c)) || std::isnan(t.d_x.at(2, c)));
      }
    }
  });
}

TEST(Norm, BiasGradient) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    const DType acc = accumulator_of(dtype);
    for (auto [N, C] : kShapes)
      for (bool accumulate : {false, true}) {
        TestBuffer d_out(dtype, N, C, C + 3), d_bias(acc, Shape{C}),
            workspace(DType::kF32, Shape{kWorkspacePerColumn * C});
        d_out.randomise(1), d_bias.randomise(2), workspace.randomise(3);
        const TestBuffer before = d_bias;
        isa.run(BiasGradient{d_bias, d_out, accumulate, workspace});
        for (int64_t c = 0; c < C; ++c) {
          double want = accumulate ? before.at(c) : 0, size = std::fabs(want);
          for (int64_t n = 0; n < N; ++n) want += d_out.at(n, c), size += std::fabs(d_out.at(n, c));
          ASSERT_TRUE(near_value(d_bias.at(c), want, acc, size, 20));
        }
        EXPECT_TRUE(d_bias.untouched() && workspace.untouched());
      }
  });
}

TEST(Norm, SameBitsWithAnyThreads) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    expect_same_with_any_threads([&] {
      NormCase t(dtype, 301, 129, true, true);
      isa.run(t.forward());
      isa.run(t.backward(true, true));
      TestBuffer d_bias(accumulator_of(dtype), Shape{129});
      isa.run(BiasGradient{d_bias, t.d_out, false, t.workspace});
      return std::vector<TestBuffer>{t.out, t.sum, t.stats, t.d_x, t.d_gain, t.d_bias, d_bias};
    });
  });
}

}  // namespace
}  // namespace sluice
