// Norms of heads and rotary positions against plain loops in double; and scores that depend on distances alone, which
// is what such positions are for.
#include "kernels/test_buffer.h"

namespace sluice {
namespace {

struct HeadNormCase {
  int64_t N, H, D;
};
const HeadNormCase kNorms[] = {{1, 1, 1}, {5, 3, 6}, {3, 2, 34}, {90, 5, 64}, {300, 1, 256}};
constexpr double kEpsilon = 1e-3;
constexpr int64_t kWorkspacePerColumn = 128;

// Magnitudes: what is added up over a row or over all heads, times the inverse deviation.
TEST(Heads, NormAndItsGradients) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    const DType acc = accumulator_of(dtype);
    for (const HeadNormCase& c : kNorms)
      for (bool accumulate : {false, true}) {
        const int64_t C = c.H * c.D;
        const double scale = accumulate ? 0.625 : 1;
        TestBuffer x(dtype, c.N, C, C + 5), out(dtype, c.N, C, C + 2), d_out(dtype, c.N, C, C + 1), d_x(dtype, c.N, C);
        TestBuffer gain(acc, Shape{c.D}), d_gain(acc, Shape{c.D}),
            workspace(DType::kF32, Shape{kWorkspacePerColumn * c.D});
        x.randomise(1), d_out.randomise(2), gain.randomise(3), d_gain.randomise(4), workspace.randomise(5);
        const TestBuffer before = d_gain;
        const HeadNormForward forward{kEpsilon, x, out, gain, scale};
        isa.run(forward);
        isa.run(HeadNormBackward{forward, d_out, d_x, d_gain, accumulate, workspace});
        std::vector<double> want(size_t(c.D)), size(size_t(c.D));
        for (int64_t d = 0; d < c.D; ++d)
          want[size_t(d)] = accumulate ? before.at(d) : 0, size[size_t(d)] = std::fabs(want[size_t(d)]) + 1;
        for (int64_t n = 0; n < c.N; ++n)
          for (int64_t h = 0; h < c.H; ++h) {
            const int64_t first = h * c.D;
            double squares = 0, dot = 0, dot_size = 0;
            for (int64_t d = 0; d < c.D; ++d) squares += x.at(n, first + d) * x.at(n, first + d);
            const double rstd = 1 / std::sqrt(squares / double(c.D) + kEpsilon);
            for (int64_t d = 0; d < c.D; ++d) {
              const double xhat = x.at(n, first + d) * rstd, e = scale * d_out.at(n, first + d) * gain.at(d);
              dot += e * xhat / double(c.D), dot_size += std::fabs(e * xhat) / double(c.D);
            }
            for (int64_t d = 0; d < c.D; ++d) {
              const double xhat = x.at(n, first + d) * rstd, d_here = scale * d_out.at(n, first + d);
              const double e = d_here * gain.at(d), y = scale * xhat * gain.at(d);
              ASSERT_TRUE(near_value(out.at(n, first + d), y, dtype, std::fabs(y), 8 + double(c.D) / 8));
              ASSERT_TRUE(near_value(d_x.at(n, first + d), rstd * (e - xhat * dot), dtype,
                                     rstd * (std::fabs(e) + std::fabs(xhat) * dot_size), 24 + double(c.D) / 8));
              want[size_t(d)] += d_here * xhat, size[size_t(d)] += std::fabs(d_here * xhat);
            }
          }
        for (int64_t d = 0; d < c.D; ++d)
          ASSERT_TRUE(near_value(d_gain.at(d), want[size_t(d)], acc, size[size_t(d)], 30 + double(c.H * c.N) / 8));
        EXPECT_TRUE(out.untouched() && d_x.untouched() && d_gain.untouched() && workspace.untouched());
        TestBuffer in_place = x, d_in_place = d_out, again = d_gain;
        isa.run(HeadNormForward{kEpsilon, in_place, in_place, gain, scale});
        isa.run(HeadNormBackward{forward, d_in_place, d_in_place, again, false, workspace});
        for (int64_t i = 0; i < x.size(); ++i) {
          ASSERT_EQ(in_place.at(i), out.at(i));
          ASSERT_EQ(d_in_place.at(i), d_x.at(i));
        }
      }
  });
}

TEST(Heads, NormGradientsAreTheSlopes) {
  for (const IsaKernels* isa : available_isas()) {
    TestBuffer x(DType::kF64, 4, 15), out(DType::kF64, 4, 15), d_out(DType::kF64, 4, 15), d_x(DType::kF64, 4, 15);
    TestBuffer gain(DType::kF64, Shape{5}), d_gain(DType::kF64, Shape{5}), workspace(DType::kF32, Shape{640});
    x.randomise(1), d_out.randomise(2), gain.randomise(3);
    const HeadNormForward forward{kEpsilon, x, out, gain};
    isa->run(HeadNormBackward{forward, d_out, d_x, d_gain, false, workspace});
    const auto loss = [&] {
      isa->run(forward);
      double total = 0;
      for (int64_t i = 0; i < out.size(); ++i) total += out.at(i) * d_out.at(i);
      return total;
    };
    for (int64_t i = 0; i < x.size(); ++i) EXPECT_NEAR(d_x.at(i), slope(x, i, loss), 1e-8);
    for (int64_t d = 0; d < 5; ++d) EXPECT_NEAR(d_gain.at(d), slope(gain, d, loss), 1e-8);
  }
}

// Without a gain: a head of length 1, whatever its length was.
TEST(Heads, WithoutAGainHaveTheLength1) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    for (const HeadNormCase& c : kNorms) {
      const int64_t C = c.H * c.D;
      TestBuffer x(dtype, c.N, C, C + 5), out(dtype, c.N, C, C + 2), d_out(dtype, c.N, C, C + 1), d_x(dtype, c.N, C);
      TestBuffer workspace(DType::kF32, Shape{kWorkspacePerColumn * c.D});
      x.randomise(1), d_out.randomise(2);
      const HeadNormForward forward{.epsilon = kEpsilon, .x = x, .out = out, .features = c.D};
      isa.run(forward);
      isa.run(HeadNormBackward{.forward = forward, .d_out = d_out, .d_x = d_x, .workspace = workspace});
      for (int64_t n = 0; n < c.N; ++n)
        for (int64_t first = 0; first < C; first += c.D) {
          double square = kEpsilon, dot = 0, size = 0;
          for (int64_t i = first; i < first + c.D; ++i) {
            square += x.at(n, i) * x.at(n, i);
            dot += d_out.at(n, i) * x.at(n, i), size += std::fabs(d_out.at(n, i) * x.at(n, i));
          }
          const double length = std::sqrt(square);
          for (int64_t i = first; i < first + c.D; ++i) {
            const double unit = x.at(n, i) / length, along = unit / length;
            ASSERT_TRUE(near_value(out.at(n, i), unit, dtype, std::fabs(unit), 8 + double(c.D) / 8));
            ASSERT_TRUE(near_value(d_x.at(n, i), d_out.at(n, i) / length - along * dot / length, dtype,
                                   std::fabs(d_out.at(n, i)) / length + std::fabs(along) * size / length,
                                   24 + double(c.D) / 8));
          }
        }
      EXPECT_TRUE(out.untouched() && d_x.untouched());
    }
  });
}

TEST(Heads, UnitLengthGradientsAreTheSlopes) {
  for (const IsaKernels* isa : available_isas()) {
    TestBuffer x(DType::kF64, 4, 15), out(DType::kF64, 4, 15), d_out(DType::kF64, 4, 15), d_x(DType::kF64, 4, 15);
    TestBuffer workspace(DType::kF32, Shape{640});
    x.randomise(1), d_out.randomise(2);
    const HeadNormForward forward{.epsilon = kEpsilon, .x = x, .out = out, .features = 5};
    isa->run(HeadNormBackward{.forward = forward, .d_out = d_out, .d_x = d_x, .workspace = workspace});
    const auto loss = [&] {
      isa->run(forward);
      double total = 0;
      for (int64_t i = 0; i < out.size(); ++i) total += out.at(i) * d_out.at(i);
      return total;
    };
    for (int64_t i = 0; i < x.size(); ++i) EXPECT_NEAR(d_x.at(i), slope(x, i, loss), 1e-7);
  }
}

TEST(Heads, SameBitsWithAnyThreads) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    expect_same_with_any_threads([&] {
      TestBuffer x(dtype, 301, 96), d(dtype, 301, 96), gain(accumulator_of(dtype), Shape{32}), d_gain = gain;
      TestBuffer workspace(DType::kF32, Shape{kWorkspacePerColumn * 32});
      x.randomise(1), d.randomise(2), gain.randomise(3);
      isa.run(HeadNormBackward{{kEpsilon, x, {}, gain}, d, d, d_gain, false, workspace});
      isa.run(HeadNormForward{kEpsilon, x, x, gain});
      return std::vector<TestBuffer>{x, d, d_gain};
    });
  });
}

// Cosines and sines of position * speed_i; speeds that differ in every pair.
TestBuffer table_of(DType act, int64_t positions, int64_t D) {
  TestBuffer table(accumulator_of(act), positions, D);
  for (int64_t p = 0; p < positions; ++p)
    for (int64_t i = 0; i < D / 2; ++i) {
      const double angle = double(p) * std::pow(100.0, -2.0 * double(i) / double(D));
      table.set(p * D + i, std::cos(angle));
      table.set(p * D + D / 2 + i, std::sin(angle));
    }
  return table;
}

struct RopeCase {
  int64_t B, T, H, D;
};
const RopeCase kRopes[] = {{1, 1, 1, 2}, {2, 5, 3, 6}, {3, 1, 2, 34}, {2, 40, 5, 64}, {1, 3, 1, 256}};

TEST(Heads, RopeTurnsPairs) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    for (const RopeCase& c : kRopes)
      for (int64_t first : {0, 3})
        for (bool inverse : {false, true}) {
          const int64_t C = c.H * c.D, half = c.D / 2;
          TestBuffer x(dtype, c.B * c.T, C, C + 5);
          x.randomise(1);
          const TestBuffer before = x, table = table_of(dtype, c.T + first, c.D);
          isa.run(Rope{.x = x, .table = table, .T = c.T, .first_position = first, .inverse = inverse});
          for (int64_t n = 0; n < c.B * c.T; ++n)
            for (int64_t i = 0; i < C; ++i) {
              const int64_t d = i % c.D, pair = d % half, p = first + n % c.T;
              const double cosine = table.at(p, pair), sine = table.at(p, half + pair) * (inverse ? -1 : 1);
              const double other = before.at(n, d < half ? i + half : i - half), here = before.at(n, i);
              ASSERT_TRUE(near_value(x.at(n, i), here * cosine + (d < half ? -other : other) * sine, dtype,
                                     std::fabs(here) + std::fabs(other), 4));
            }
          EXPECT_TRUE(x.untouched());
        }
  });
}

// (R_p q) . (R_r k) = q . (R_(r - p) k), and turning back undoes it.
TEST(Heads, RopedScoresDependOnDistances) {
  for (const IsaKernels* isa : available_isas()) {
    constexpr int64_t T = 9, D = 10;
    TestBuffer q(DType::kF64, T, D), k(DType::kF64, T, D);
    const TestBuffer table = table_of(DType::kF64, T, D);
    for (int64_t i = 0; i < T * D; ++i) q.set(i, std::sin(double(i % D))), k.set(i, std::cos(double(3 * (i % D))));
    const TestBuffer before = q;
    for (const TestBuffer* x : {&q, &k}) isa->run(Rope{.x = *x, .table = table, .T = T});
    const auto score = [&](int64_t a, int64_t b) {
      double dot = 0;
      for (int64_t i = 0; i < D; ++i) dot += q.at(a, i) * k.at(b, i);
      return dot;
    };
    for (int64_t a = 1; a < T; ++a)
      for (int64_t b = 1; b < T; ++b) EXPECT_NEAR(score(a, b), score(a - 1, b - 1), 1e-14);
    EXPECT_GT(std::fabs(score(0, 5) - score(0, 0)), 0.1);
    isa->run(Rope{.x = q, .table = table, .T = T, .inverse = true});
    for (int64_t i = 0; i < T * D; ++i) EXPECT_NEAR(q.at(i), before.at(i), 1e-15);
  }
}

}  // namespace
}  // namespace sluice
