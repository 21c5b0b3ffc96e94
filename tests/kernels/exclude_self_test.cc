// Exclusive self-attention: examples for the tests that walk the list of ops, and both ops against plain loops in
// double.
#include "kernels/ops/stages/exclude_self.h"

#include <gtest/gtest.h>

#include "kernels/op_example.h"

namespace sluice {
namespace {

struct ExcludeSelfExample : ExampleBase {
  static constexpr int64_t kHeads = 6, kKv = 2, kD = 9;
  using ExampleBase::ExampleBase;
  const size_t y = given(kHeads * kD), v = given(kKv * kD);
  ExcludeSelfForward inputs(const Tensors& t) const {
    return {.heads = kHeads, .kv_heads = kKv, .y = t[y], .v = t[v], .out = {}};
  }
};

struct ForwardExample : ExcludeSelfExample {
  using ExcludeSelfExample::ExcludeSelfExample;
  const size_t out = written(kHeads * kD);
  ExcludeSelfForward op(const Tensors& t) const {
    ExcludeSelfForward op = inputs(t);
    op.out = t[out];
    return op;
  }
};

struct BackwardExample : ExcludeSelfExample {
  using ExcludeSelfExample::ExcludeSelfExample;
  const size_t d_out = given(kHeads * kD), d_y = written(kHeads * kD), d_v = written(kKv * kD);
  ExcludeSelfBackward op(const Tensors& t) const { return {inputs(t), t[d_out], t[d_y], t[d_v]}; }
};

struct Case {
  int64_t N, H, KV, D;
};
const Case kCases[] = {{1, 1, 1, 1}, {5, 4, 2, 7}, {3, 2, 2, 64}, {40, 6, 1, 65}, {2, 2, 1, 200}, {2, 1, 1, 512}};

// body(isa, type, case)
template <class Body>
void for_cases(Body body) {
  for (const IsaKernels* isa : available_isas())
    for (const DType type : {DType::kF32, DType::kBF16, DType::kF64})
      for (const Case& one : kCases) {
        SCOPED_TRACE(fmt::format("{} {} {} rows, {} heads, {} of values, {} features", isa->name, name_of(type), one.N,
                                 one.H, one.KV, one.D));
        body(*isa, type, one);
      }
}

struct Buffers {
  TestBuffer y, v, d, out, d_v;
  Buffers(DType type, const Case& c)
      : y(type, c.N, c.H * c.D, c.H * c.D + 3),
        v(type, c.N, c.KV * c.D, c.KV * c.D + 5),
        d(type, c.N, c.H * c.D),
        out(type, c.N, c.H * c.D),
        d_v(type, c.N, c.KV * c.D) {
    y.randomise(1), v.randomise(2), d.randomise(3);
  }
};

// The sum over a head of x y, x from head `h` and y from head `g` of a row, and that of the magnitudes.
std::pair<double, double> dot(const TestBuffer& x, int64_t h, const TestBuffer& y, int64_t g, int64_t n, int64_t D) {
  double sum = 0, magnitude = 0;
  for (int64_t i = 0; i < D; ++i) {
    const double term = x.at(n, h * D + i) * y.at(n, g * D + i);
    sum += term, magnitude += std::fabs(term);
  }
  return {sum, magnitude};
}

TEST(ExcludeSelf, TakesOutWhatLiesAlongTheOwnValue) {
  for_cases([](const IsaKernels& isa, DType type, const Case& c) {
    Buffers b(type, c);
    isa.run(ExcludeSelfForward{c.H, c.KV, b.y, b.v, b.out});
    for (int64_t n = 0; n < c.N; ++n)
      for (int64_t h = 0; h < c.H; ++h) {
        const int64_t g = h / (c.H / c.KV);
        const auto [along, size] = dot(b.y, h, b.v, g, n, c.D);
        const double square = dot(b.v, g, b.v, g, n, c.D).first;
        for (int64_t i = 0; i < c.D; ++i) {
          const double value = b.v.at(n, g * c.D + i), y = b.y.at(n, h * c.D + i);
          // The sums of D terms round up to D / 8 times in a row (eight lanes at least), then the quotient and product.
          ASSERT_TRUE(near_value(b.out.at(n, h * c.D + i), y - along / square * value, type,
                                 std::fabs(y) + size / square * std::fabs(value), 8 + double(c.D) / 4));
        }
      }
    EXPECT_TRUE(b.out.untouched());
  });
}

TEST(ExcludeSelf, LeavesNothingAlongTheValueAndChangesNothingTheSecondTime) {
  const IsaKernels& isa = *available_isas().back();
  const Case c{7, 4, 2, 24};
  Buffers b(DType::kF64, c);
  isa.run(ExcludeSelfForward{c.H, c.KV, b.y, b.v, b.out});
  const TestBuffer once = b.out;
  isa.run(ExcludeSelfForward{c.H, c.KV, b.out, b.v, b.out});
  for (int64_t n = 0; n < c.N; ++n)
    for (int64_t h = 0; h < c.H; ++h) {
      EXPECT_NEAR(dot(once, h, b.v, h / 2, n, c.D).first, 0, 1e-14);
      for (int64_t i = 0; i < c.D; ++i) EXPECT_NEAR(b.out.at(n, h * c.D + i), once.at(n, h * c.D + i), 1e-15);
    }
}

TEST(ExcludeSelf, TakesNothingOutAlongAValueOfZero) {
  const IsaKernels& isa = *available_isas().back();
  const Case c{2, 2, 1, 5};
  Buffers b(DType::kF32, c);
  for (int64_t i = 0; i < b.v.size(); ++i) b.v.set(i, 0);
  isa.run(ExcludeSelfForward{c.H, c.KV, b.y, b.v, b.out});
  for (int64_t i = 0; i < b.y.size(); ++i) EXPECT_EQ(b.out.at(i), b.y.at(i));
  isa.run(ExcludeSelfBackward{{c.H, c.KV, b.y, b.v, {}}, b.d, b.out, b.d_v});
  for (int64_t i = 0; i < b.d.size(); ++i) EXPECT_EQ(b.out.at(i), b.d.at(i));
  for (int64_t i = 0; i < b.d_v.size(); ++i) EXPECT_EQ(b.d_v.at(i), 0);
}

TEST(ExcludeSelf, HasTheGradientOfTheForwardPass) {
  for_cases([](const IsaKernels& isa, DType type, const Case& c) {
    Buffers b(type, c);
    TestBuffer d_y(type, c.N, c.H * c.D);
    isa.run(ExcludeSelfBackward{{c.H, c.KV, b.y, b.v, {}}, b.d, d_y, b.d_v});
    const int64_t group = c.H / c.KV;
    for (int64_t n = 0; n < c.N; ++n)
      for (int64_t g = 0; g < c.KV; ++g) {
        const double square = dot(b.v, g, b.v, g, n, c.D).first;
        std::vector<double> want(size_t(c.D)), size(size_t(c.D));
        for (int64_t h = g * group; h < (g + 1) * group; ++h) {
          const auto [ys, y_size] = dot(b.y, h, b.v, g, n, c.D);
          const auto [ds, d_size] = dot(b.d, h, b.v, g, n, c.D);
          const double A = y_size / square, B = d_size / square;
          for (int64_t i = 0; i < c.D; ++i) {
            const double v = b.v.at(n, g * c.D + i), y = b.y.at(n, h * c.D + i), d = b.d.at(n, h * c.D + i);
            want[size_t(i)] += 2 * ys * ds / square / square * v - ds / square * y - ys / square * d;
            size[size_t(i)] += std::fabs(2 * A * B * v) + std::fabs(B * y) + std::fabs(A * d);
            ASSERT_TRUE(near_value(d_y.at(n, h * c.D + i), d - ds / square * v, type, std::fabs(d) + std::fabs(B * v),
                                   8 + double(c.D) / 4));
          }
        }
        for (int64_t i = 0; i < c.D; ++i)
          ASSERT_TRUE(near_value(b.d_v.at(n, g * c.D + i), want[size_t(i)], type, size[size_t(i)],
                                 16 + double(c.D) / 2 + double(group)));
      }
    EXPECT_TRUE(d_y.untouched() && b.d_v.untouched());
  });
}

// In double against differences, through both inputs.
TEST(ExcludeSelf, GradientsAreDifferencesOfTheResult) {
  const IsaKernels& isa = *available_isas().back();
  const Case c{2, 4, 2, 6};
  Buffers b(DType::kF64, c);
  TestBuffer d_y(DType::kF64, c.N, c.H * c.D), out(DType::kF64, c.N, c.H * c.D);
  isa.run(ExcludeSelfBackward{{c.H, c.KV, b.y, b.v, {}}, b.d, d_y, b.d_v});
  const auto loss = [&] {
    isa.run(ExcludeSelfForward{c.H, c.KV, b.y, b.v, out});
    double sum = 0;
    for (int64_t i = 0; i < out.size(); ++i) sum += out.at(i) * b.d.at(i);
    return sum;
  };
  for (int64_t i = 0; i < b.y.size(); ++i) EXPECT_NEAR(d_y.at(i), slope(b.y, i, loss), 1e-7);
  for (int64_t i = 0; i < b.v.size(); ++i) EXPECT_NEAR(b.d_v.at(i), slope(b.v, i, loss), 1e-7);
}

}  // namespace

SLUICE_OP_EXAMPLE(ExcludeSelfForward, ForwardExample)
SLUICE_OP_EXAMPLE(ExcludeSelfBackward, BackwardExample)

}  // namespace sluice
