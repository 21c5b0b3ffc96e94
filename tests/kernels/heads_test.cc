// Rotary positions against plain loops in double, and against what they are for: scores that depend on distances alone.
#include "kernels/test_buffer.h"

namespace sluice {
namespace {

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
          isa.rope({.x = x, .table = table, .T = c.T, .first_position = first, .inverse = inverse});
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
    for (const TestBuffer* x : {&q, &k}) isa->rope({.x = *x, .table = table, .T = T});
    const auto score = [&](int64_t a, int64_t b) {
      double dot = 0;
      for (int64_t i = 0; i < D; ++i) dot += q.at(a, i) * k.at(b, i);
      return dot;
    };
    for (int64_t a = 1; a < T; ++a)
      for (int64_t b = 1; b < T; ++b) EXPECT_NEAR(score(a, b), score(a - 1, b - 1), 1e-14);
    EXPECT_GT(std::fabs(score(0, 5) - score(0, 0)), 0.1);
    isa->rope({.x = q, .table = table, .T = T, .inverse = true});
    for (int64_t i = 0; i < T * D; ++i) EXPECT_NEAR(q.at(i), before.at(i), 1e-15);
  }
}

}  // namespace
}  // namespace sluice
