// Differences of heads: examples for the tests that walk the list of ops, and all ops against plain loops in double.
#include "kernels/ops/stages/difference.h"

#include <gtest/gtest.h>

#include "kernels/op_example.h"

namespace sluice {
namespace {

// Two blocks, each of four heads and of two that are taken from two of them.
struct DifferenceExample : ExampleBase {
  static constexpr DifferenceLayout kLayout = {.heads = 8, .signal = 2, .noise = 2};
  static constexpr int64_t kD = 19;
  using ExampleBase::ExampleBase;
  const size_t x = given(12 * kD), lambda = given(8);
  DifferenceForward inputs(const Tensors& t) const {
    return {.layout = kLayout, .x = t[x], .lambda = t[lambda], .out = {}};
  }
};

struct ForwardExample : DifferenceExample {
  using DifferenceExample::DifferenceExample;
  const size_t out = written(8 * kD);
  DifferenceForward op(const Tensors& t) const {
    DifferenceForward op = inputs(t);
    op.out = t[out];
    return op;
  }
};

struct BackwardExample : DifferenceExample {
  using DifferenceExample::DifferenceExample;
  const size_t d_out = given(8 * kD), d_x = written(12 * kD), d_lambda = written(8);
  DifferenceBackward op(const Tensors& t) const { return {inputs(t), t[d_out], t[d_x], t[d_lambda]}; }
};

// Small vectors: the exponentials of their products are near 1.
struct VectorsExample : ExampleBase {
  VectorsExample(DType act, int64_t gap, int64_t N) : ExampleBase(act, gap, N) { buffers[vectors].randomise(1, 0.2); }
  const size_t vectors = given_flat(acc, {4, 19});
};

struct FactorExample : VectorsExample {
  using VectorsExample::VectorsExample;
  const size_t out = written_flat(acc, {1});
  DifferenceFactorForward op(const Tensors& t) const { return {0.3, t[vectors], t[out]}; }
};

struct FactorBackwardExample : VectorsExample {
  using VectorsExample::VectorsExample;
  const size_t d_out = given_flat(acc, {37}), d_vectors = given_flat(acc, {4, 19});
  DifferenceFactorBackward op(const Tensors& t) const { return {t[vectors], t[d_out], t[d_vectors], true}; }
};

struct Case {
  int64_t N;
  DifferenceLayout layout;
  int64_t D;
  bool logits;
};
const Case kCases[] = {{1, {1, 1, 1}, 1, true},   {5, {4, 1, 1}, 7, true},    {3, {2, 1, 2}, 64, false},
                       {40, {6, 3, 1}, 65, true}, {7, {12, 2, 3}, 16, false}, {2, {4, 4, 1}, 256, true}};

struct Buffers {
  TestBuffer x, lambda, d, out, d_x, d_lambda;
  Buffers(DType type, const Case& c)
      : x(type, c.N, c.layout.all_heads() * c.D, c.layout.all_heads() * c.D + 3),
        lambda(c.logits ? TestBuffer(type, c.N, c.layout.heads, c.layout.heads + 2)
                        : TestBuffer(accumulator_of(type), {1})),
        d(type, c.N, c.layout.heads * c.D, c.layout.heads * c.D + 1),
        out(type, c.N, c.layout.heads * c.D, c.layout.heads * c.D + 5),
        d_x(type, c.N, c.layout.all_heads() * c.D, c.layout.all_heads() * c.D + 7),
        d_lambda(type, c.N, c.layout.heads, c.layout.heads + 1) {
    x.randomise(1), lambda.randomise(2), d.randomise(3);
  }
  double factor(const Case& c, int64_t n, int64_t h) const {
    return c.logits ? 1 / (1 + std::exp(-lambda.at(n, h))) : lambda.at(0);
  }
};

// body(isa, type, case)
template <class Body>
void for_cases(Body body) {
  for (const IsaKernels* isa : available_isas())
    for (const DType type : {DType::kF32, DType::kBF16, DType::kF64})
      for (const Case& one : kCases) {
        SCOPED_TRACE(fmt::format("{} {} {} rows, {} heads, {} for one, {} side by side, {} features", isa->name,
                                 name_of(type), one.N, one.layout.heads, one.layout.signal, one.layout.noise, one.D));
        body(*isa, type, one);
      }
}

// body(row, head of the result, its head of x, the head that is taken from it), block by block as the layout is told.
template <class Body>
void for_heads(const Case& c, Body body) {
  const auto& [heads, signal, noise] = c.layout;
  for (int64_t n = 0; n < c.N; ++n)
    for (int64_t block = 0, first = 0, h = 0; h < heads; ++block, first += signal * noise + noise)
      for (int64_t i = 0; i < signal * noise; ++i, ++h) body(n, h, first + i, first + signal * noise + i / signal);
}

TEST(Difference, TakesTheShareOfAnotherHead) {
  for_cases([](const IsaKernels& isa, DType type, const Case& c) {
    Buffers b(type, c);
    isa.run(DifferenceForward{c.layout, b.x, b.lambda, b.out});
    for_heads(c, [&](int64_t n, int64_t h, int64_t signal, int64_t noise) {
      const double factor = b.factor(c, n, h);
      for (int64_t i = 0; i < c.D; ++i) {
        const double x = b.x.at(n, signal * c.D + i), y = factor * b.x.at(n, noise * c.D + i);
        ASSERT_TRUE(near_value(b.out.at(n, h * c.D + i), x - y, type, std::fabs(x) + std::fabs(y), 8));
      }
    });
    EXPECT_TRUE(b.out.untouched());
  });
}

TEST(Difference, HasTheGradientOfTheForwardPass) {
  for_cases([](const IsaKernels& isa, DType type, const Case& c) {
    Buffers b(type, c);
    isa.run(DifferenceBackward{{c.layout, b.x, b.lambda, {}}, b.d, b.d_x, b.d_lambda});
    std::vector<double> noise_sums(size_t(b.d_x.size())), sizes(size_t(b.d_x.size()));
    for_heads(c, [&](int64_t n, int64_t h, int64_t signal, int64_t noise) {
      const double factor = b.factor(c, n, h), slope = c.logits ? factor * (1 - factor) : 1;
      double dot = 0, size = 0;
      for (int64_t i = 0; i < c.D; ++i) {
        const double d = b.d.at(n, h * c.D + i), y = b.x.at(n, noise * c.D + i);
        ASSERT_EQ(b.d_x.at(n, signal * c.D + i), d);
        dot += d * y, size += std::fabs(d * y);
        const size_t at = size_t((n * c.layout.all_heads() + noise) * c.D + i);
        noise_sums[at] -= factor * d, sizes[at] += std::fabs(factor * d);
      }
      ASSERT_TRUE(near_value(b.d_lambda.at(n, h), -slope * dot, type, slope * size, 16 + double(c.D) / 4));
    });
    for_heads(c, [&](int64_t n, int64_t, int64_t, int64_t noise) {
      for (int64_t i = 0; i < c.D; ++i) {
        const size_t at = size_t((n * c.layout.all_heads() + noise) * c.D + i);
        ASSERT_TRUE(
            near_value(b.d_x.at(n, noise * c.D + i), noise_sums[at], type, sizes[at], 8 + 2 * double(c.layout.signal)));
      }
    });
    EXPECT_TRUE(b.d_x.untouched() && b.d_lambda.untouched());
  });
}

// A logit of -infinity is a factor of 0, of +infinity of 1.
TEST(Difference, TakesNothingOrAllAtTheEndsOfTheSigmoid) {
  const IsaKernels& isa = *available_isas().back();
  for (const double logit : {-INFINITY, INFINITY}) {
    const Case c{3, {2, 1, 1}, 9, true};
    Buffers b(DType::kF32, c);
    for (int64_t i = 0; i < b.lambda.size(); ++i) b.lambda.set(i, logit);
    isa.run(DifferenceForward{c.layout, b.x, b.lambda, b.out});
    for_heads(c, [&](int64_t n, int64_t h, int64_t signal, int64_t noise) {
      for (int64_t i = 0; i < c.D; ++i) {
        const float x = float(b.x.at(n, signal * c.D + i)), y = float(b.x.at(n, noise * c.D + i));
        EXPECT_EQ(b.out.at(n, h * c.D + i), logit < 0 ? x : x - y);
      }
    });
  }
}

TEST(Difference, HasOneFactorOfTwoExponentials) {
  for (const IsaKernels* isa : available_isas())
    for (const DType type : {DType::kF32, DType::kF64})
      for (const int64_t D : {1, 7, 64, 200})
        for (const bool accumulate : {false, true}) {
          SCOPED_TRACE(fmt::format("{} {} {} features", isa->name, name_of(type), D));
          TestBuffer vectors(type, {4, D}), out(type, {1}), d(type, {5}), d_vectors(type, {4, D});
          vectors.randomise(1), d.randomise(2), d_vectors.randomise(3);
          for (int64_t i = 0; i < vectors.size(); ++i) vectors.set(i, vectors.at(i) / std::sqrt(double(D)));
          const TestBuffer before = d_vectors;
          isa->run(DifferenceFactorForward{0.2, vectors, out});
          isa->run(DifferenceFactorBackward{vectors, d, d_vectors, accumulate});
          double dots[2] = {}, slope = 0;
          for (int64_t i = 0; i < D; ++i)
            for (int64_t pair = 0; pair < 2; ++pair)
              dots[pair] += vectors.at(2 * pair * D + i) * vectors.at((2 * pair + 1) * D + i);
          for (int64_t h = 0; h < 5; ++h) slope += d.at(h);
          const double first = std::exp(dots[0]), second = std::exp(dots[1]), rounds = 30 + double(D);
          EXPECT_TRUE(near_value(out.at(0), first - second + 0.2, type, first + second + 1, rounds));
          for (int64_t row = 0; row < 4; ++row)
            for (int64_t i = 0; i < D; ++i) {
              const double term = slope * (row < 2 ? first : -second) * vectors.at((row ^ 1) * D + i);
              const double old = accumulate ? before.at(row * D + i) : 0;
              EXPECT_TRUE(near_value(d_vectors.at(row * D + i), old + term, type,
                                     std::fabs(old) + 5 * std::max(first, second), rounds));
            }
        }
}

// In double against differences, through all inputs of both ops.
TEST(Difference, GradientsAreDifferencesOfTheResult) {
  const IsaKernels& isa = *available_isas().back();
  for (const bool logits : {true, false}) {
    const Case c{2, {4, 2, 2}, 5, logits};
    Buffers b(DType::kF64, c);
    isa.run(DifferenceBackward{{c.layout, b.x, b.lambda, {}}, b.d, b.d_x, b.d_lambda});
    const auto loss = [&] {
      isa.run(DifferenceForward{c.layout, b.x, b.lambda, b.out});
      double sum = 0;
      for (int64_t n = 0; n < c.N; ++n)
        for (int64_t i = 0; i < c.layout.heads * c.D; ++i) sum += b.out.at(n, i) * b.d.at(n, i);
      return sum;
    };
    for (int64_t n = 0; n < c.N; ++n)
      for (int64_t i = 0; i < c.layout.all_heads() * c.D; ++i)
        EXPECT_NEAR(b.d_x.at(n, i), slope(b.x, n * c.layout.all_heads() * c.D + i, loss), 1e-7);
    double all = 0;
    for (int64_t n = 0; n < c.N; ++n)
      for (int64_t h = 0; h < c.layout.heads; ++h) {
        all += b.d_lambda.at(n, h);
        if (logits) {
          EXPECT_NEAR(b.d_lambda.at(n, h), slope(b.lambda, n * c.layout.heads + h, loss), 1e-7);
        }
      }
    if (!logits) {
      EXPECT_NEAR(all, slope(b.lambda, 0, loss), 1e-7);
    }
  }
}

}  // namespace

SLUICE_OP_EXAMPLE(DifferenceForward, ForwardExample)
SLUICE_OP_EXAMPLE(DifferenceBackward, BackwardExample)
SLUICE_OP_EXAMPLE(DifferenceFactorForward, FactorExample)
SLUICE_OP_EXAMPLE(DifferenceFactorBackward, FactorBackwardExample)

}  // namespace sluice
