// Affine-scaled attention: examples for the tests that walk the list of ops, and the ops against plain loops in double.
#include "kernels/ops/stages/affine.h"

#include <gtest/gtest.h>

#include "kernels/op_example.h"

namespace sluice {
namespace {

constexpr AffinePhi kPhis[] = {AffinePhi::kLinear, AffinePhi::kSigmoid};

struct AffineExample : ExampleBase {
  static constexpr int64_t kHeads = 6, kKv = 2, kD = 9;
  using ExampleBase::ExampleBase;
  const size_t y = given(kHeads * kD), u = given(kKv * kD), logits = given(kHeads), average = given_flat(acc, {kHeads});
  AffineForward inputs(const Tensors& t) const {
    return {.phi = AffinePhi::kSigmoid,
            .heads = kHeads,
            .kv_heads = kKv,
            .y = t[y],
            .u = t[u],
            .logits = t[logits],
            .average = t[average],
            .out = {}};
  }
};

struct ForwardExample : AffineExample {
  using AffineExample::AffineExample;
  const size_t out = written(kHeads * kD);
  AffineForward op(const Tensors& t) const {
    AffineForward op = inputs(t);
    op.out = t[out];
    return op;
  }
};

struct BackwardExample : AffineExample {
  using AffineExample::AffineExample;
  const size_t d_out = given(kHeads * kD), d_y = written(kHeads * kD), d_u = written(kKv * kD),
               d_logits = written(kHeads);
  AffineBackward op(const Tensors& t) const { return {inputs(t), t[d_out], t[d_y], t[d_u], t[d_logits]}; }
};

struct MeanExample : ExampleBase {
  static constexpr int64_t kHeads = 19;
  using ExampleBase::ExampleBase;
  const size_t logits = given(kHeads), mean = given_flat(acc, {kHeads});
  AffineMean op(const Tensors& t) const { return {AffinePhi::kLinear, 0.75, t[logits], t[mean]}; }
};

// ---- against plain loops --------------------------------------------------------------------------------------------

double plain_phi(AffinePhi phi, double z) {
  return phi == AffinePhi::kSigmoid ? 1 / (1 + std::exp(-z)) : std::min(1.0, std::max(0.0, 0.1 * z + 0.5));
}
double plain_slope(AffinePhi phi, double z) {
  const double a = plain_phi(phi, z);
  return phi == AffinePhi::kSigmoid ? a * (1 - a) : std::fabs(z) < 5 ? 0.1 : 0;
}

struct Case {
  int64_t N, H, KV, D;
};
const Case kCases[] = {{1, 1, 1, 1}, {5, 4, 2, 7}, {3, 2, 2, 64}, {40, 6, 1, 65}, {2, 2, 1, 200}, {2, 1, 1, 512}};

struct Buffers {
  AffinePhi phi;
  Case c;
  TestBuffer y, u, z, m, d, out, d_u, d_z;
  Buffers(DType type, const Case& c, AffinePhi phi)
      : phi(phi),
        c(c),
        y(type, c.N, c.H * c.D, c.H * c.D + 3),
        u(type, c.N, c.KV * c.D, c.KV * c.D + 5),
        z(type, c.N, c.H, c.H + 2),
        m(accumulator_of(type), Shape{c.H}),
        d(type, c.N, c.H * c.D),
        out(type, c.N, c.H * c.D),
        d_u(type, c.N, c.KV * c.D),
        d_z(type, c.N, c.H) {
    y.randomise(1), u.randomise(2), z.randomise(3, 4), m.randomise(4), d.randomise(5);
  }
  AffineForward inputs() const { return {phi, c.H, c.KV, y, u, z, m, {}}; }
  AffineForward forward() const { return {phi, c.H, c.KV, y, u, z, m, out}; }
  AffineBackward backward(const TestBuffer& d_y) const { return {inputs(), d, d_y, d_u, d_z}; }
  int64_t group() const { return c.H / c.KV; }
  double y_at(int64_t n, int64_t h, int64_t i) const { return y.at(n, h * c.D + i); }
  double u_at(int64_t n, int64_t h, int64_t i) const { return u.at(n, h / group() * c.D + i); }
  double a(int64_t n, int64_t h) const { return plain_phi(phi, z.at(n, h)); }
};

// body(isa, type, buffers)
template <class Body>
void for_cases(Body body) {
  for_kernels([&](const IsaKernels& isa, DType type) {
    for (const AffinePhi phi : kPhis)
      for (const Case& c : kCases) {
        SCOPED_TRACE(
            fmt::format("phi {}, {} rows, {} heads, {} of values, {} features", int(phi), c.N, c.H, c.KV, c.D));
        Buffers b(type, c, phi);
        body(isa, type, b);
      }
  });
}

TEST(Affine, ScalesTheResultAndAddsAShareOfTheMean) {
  for_cases([](const IsaKernels& isa, DType type, Buffers& b) {
    isa.run(b.forward());
    for (int64_t n = 0; n < b.c.N; ++n)
      for (int64_t h = 0; h < b.c.H; ++h)
        for (int64_t i = 0; i < b.c.D; ++i) {
          const double y = b.y_at(n, h, i), u = b.u_at(n, h, i), a = b.a(n, h), m = b.m.at(h);
          // The factor's own roundings (an exponential, or a sum and a quotient), then three products and three sums.
          ASSERT_TRUE(near_value(b.out.at(n, h * b.c.D + i), a * y + (m - a) * u, type,
                                 std::fabs(y) + (2 + std::fabs(m)) * std::fabs(u), 12))
              << n << " " << h << " " << i;
        }
    EXPECT_TRUE(b.out.untouched());
  });
}

TEST(Affine, HasTheGradientOfTheForwardPass) {
  for_cases([](const IsaKernels& isa, DType type, Buffers& b) {
    TestBuffer d_y(type, b.c.N, b.c.H * b.c.D);
    isa.run(b.backward(d_y));
    const int64_t D = b.c.D;
    for (int64_t n = 0; n < b.c.N; ++n)
      for (int64_t h = 0; h < b.c.H; ++h) {
        const double a = b.a(n, h), slope = plain_slope(b.phi, b.z.at(n, h));
        double dot = 0, size = 0;
        for (int64_t i = 0; i < D; ++i) {
          const double d = b.d.at(n, h * D + i), y = b.y_at(n, h, i), u = b.u_at(n, h, i);
          dot += d * (y - u), size += std::fabs(d) * (std::fabs(y) + std::fabs(u));
          ASSERT_TRUE(near_value(d_y.at(n, h * D + i), a * d, type, std::fabs(d), 8));
          if (h % b.group() > 0) continue;
          double want = 0, magnitude = 0;
          for (int64_t other = h; other < h + b.group(); ++other) {
            const double term = b.d.at(n, other * D + i);
            want += (b.m.at(other) - b.a(n, other)) * term;
            magnitude += (1 + std::fabs(b.m.at(other))) * std::fabs(term);
          }
          ASSERT_TRUE(near_value(b.d_u.at(n, h / b.group() * D + i), want, type, magnitude, 10 + double(b.group())));
        }
        ASSERT_TRUE(near_value(b.d_z.at(n, h), slope * dot, type, 0.25 * size, 16 + double(D) / 4));
      }
    EXPECT_TRUE(d_y.untouched() && b.d_u.untouched() && b.d_z.untouched());
  });
}

// In double against differences, through every input; the logits are away from the clip's ends.
TEST(Affine, GradientsAreDifferencesOfTheResult) {
  const IsaKernels& isa = *available_isas().back();
  for (const AffinePhi phi : kPhis) {
    Buffers b(DType::kF64, {2, 4, 2, 6}, phi);
    for (int64_t i = 0; i < b.z.size(); ++i) b.z.set(i, i % 3 == 0 ? 6 + double(i) : 3 * std::sin(double(i)));
    TestBuffer d_y(DType::kF64, 2, 24);
    isa.run(b.backward(d_y));
    const auto loss = [&] {
      isa.run(b.forward());
      double sum = 0;
      for (int64_t i = 0; i < b.out.size(); ++i) sum += b.out.at(i) * b.d.at(i);
      return sum;
    };
    for (int64_t i = 0; i < b.y.size(); ++i) EXPECT_NEAR(d_y.at(i), slope(b.y, i, loss), 1e-8);
    for (int64_t i = 0; i < b.u.size(); ++i) EXPECT_NEAR(b.d_u.at(i), slope(b.u, i, loss), 1e-8);
    for (int64_t i = 0; i < b.z.size(); ++i) EXPECT_NEAR(b.d_z.at(i), slope(b.z, i, loss), 1e-8) << i;
  }
}

TEST(Affine, IsTheResultItselfWhereFactorAndAverageAreOne) {
  for_kernels([](const IsaKernels& isa, DType type) {
    Buffers b(type, {5, 4, 2, 7}, AffinePhi::kLinear);
    for (int64_t i = 0; i < b.z.size(); ++i) b.z.set(i, 5);
    for (int64_t i = 0; i < b.m.size(); ++i) b.m.set(i, 1);
    isa.run(b.forward());
    for (int64_t n = 0; n < 5; ++n)
      for (int64_t c = 0; c < 28; ++c)
        EXPECT_TRUE(near_value(b.out.at(n, c), b.y.at(n, c), type, std::fabs(b.y.at(n, c)) + 4, 2));
  });
}

TEST(Affine, LetsANanThrough) {
  for (const AffinePhi phi : kPhis) {
    Buffers b(DType::kF32, {1, 1, 1, 3}, phi);
    b.z.set(0, NAN);
    available_isas().back()->run(b.forward());
    EXPECT_TRUE(std::isnan(b.out.at(0)));
  }
}

TEST(Affine, AddsTheMeanOfTheFactors) {
  for_kernels([](const IsaKernels& isa, DType type) {
    for (const AffinePhi phi : kPhis)
      for (const auto& [N, H] : {std::pair<int64_t, int64_t>{1, 1}, {700, 12}, {33, 40}}) {
        TestBuffer z(type, N, H, H + 3), mean(accumulator_of(type), Shape{H});
        z.randomise(1, 4), mean.randomise(2);
        const TestBuffer before = mean;
        isa.run(AffineMean{phi, 0.25, z, mean});
        for (int64_t h = 0; h < H; ++h) {
          double sum = 0;
          for (int64_t n = 0; n < N; ++n) sum += plain_phi(phi, z.at(n, h));
          // Rows are added in chunks of 256.
          ASSERT_TRUE(near_value(mean.at(h), before.at(h) + 0.25 * sum / double(N), accumulator_of(type),
                                 std::fabs(before.at(h)) + 0.25, 12 + double(std::min<int64_t>(N, 256))));
        }
        EXPECT_TRUE(mean.untouched());
      }
  });
}

}  // namespace

SLUICE_OP_EXAMPLE(AffineForward, ForwardExample)
SLUICE_OP_EXAMPLE(AffineBackward, BackwardExample)
SLUICE_OP_EXAMPLE(AffineMean, MeanExample)

}  // namespace sluice
