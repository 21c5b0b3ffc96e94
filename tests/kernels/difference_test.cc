// Differences of heads: examples for the tests that walk the list of ops, and all ops against plain loops in double.
#include "kernels/ops/stages/difference.h"

#include <gtest/gtest.h>

#include <algorithm>

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

enum class Lambda { kLogits, kOne, kOfHeads };

struct Case {
  int64_t N;
  DifferenceLayout layout;
  int64_t D;
  Lambda lambda;
  bool logits() const { return lambda == Lambda::kLogits; }
  bool clamped() const { return lambda == Lambda::kOfHeads; }
};
const Case kCases[] = {
    {1, {1, 1, 1}, 1, Lambda::kLogits},   {5, {4, 1, 1}, 7, Lambda::kLogits},    {3, {2, 1, 2}, 64, Lambda::kOne},
    {40, {6, 3, 1}, 65, Lambda::kLogits}, {7, {12, 2, 3}, 16, Lambda::kOne},     {2, {4, 4, 1}, 256, Lambda::kLogits},
    {1, {1, 1, 1}, 3, Lambda::kOfHeads},  {6, {12, 2, 3}, 17, Lambda::kOfHeads}, {33, {9, 3, 1}, 64, Lambda::kOfHeads}};

struct Buffers {
  TestBuffer x, lambda, d, out, d_x, d_lambda;
  Buffers(DType type, const Case& c)
      : x(type, c.N, c.layout.all_heads() * c.D, c.layout.all_heads() * c.D + 3),
        lambda(c.logits() ? TestBuffer(type, c.N, c.layout.heads, c.layout.heads + 2)
                          : TestBuffer(accumulator_of(type), {c.clamped() ? c.layout.heads : 1})),
        d(type, c.N, c.layout.heads * c.D, c.layout.heads * c.D + 1),
        out(type, c.N, c.layout.heads * c.D, c.layout.heads * c.D + 5),
        d_x(type, c.N, c.layout.all_heads() * c.D, c.layout.all_heads() * c.D + 7),
        d_lambda(type, c.N, c.layout.heads, c.layout.heads + 1) {
    x.randomise(1), lambda.randomise(2), d.randomise(3);
    for (int64_t h = 0; c.clamped() && h < lambda.size(); ++h) lambda.set(h, kOfHeads[h % 6]);
  }
  DifferenceForward forward(const Case& c) const {
    return {.layout = c.layout, .x = x, .lambda = lambda, .out = {}, .clamped = c.clamped()};
  }
  DifferenceForward forward_into_out(const Case& c) const {
    DifferenceForward op = forward(c);
    op.out = out;
    return op;
  }
  double factor(const Case& c, int64_t n, int64_t h) const {
    if (c.logits()) return 1 / (1 + std::exp(-lambda.at(n, h)));
    return c.clamped() ? std::clamp(lambda.at(h), 0.0, 1.0) : lambda.at(0);
  }
  // Of the factor in the number that is learned; at the ends of what it is clamped to, those of inside.
  double slope(const Case& c, int64_t n, int64_t h) const {
    if (c.logits()) return factor(c, n, h) * (1 - factor(c, n, h));
    return !c.clamped() || (lambda.at(h) >= 0 && lambda.at(h) <= 1) ? 1 : 0;
  }
  static constexpr double kOfHeads[] = {0.25, -0.5, 1, 1.5, 0.875, 0};
};

// body(isa, type, case)
template <class Body>
void for_cases(Body body) {
  for (const IsaKernels* isa : available_isas())
    for (const DType type : {DType::kF32, DType::kBF16, DType::kF64})
      for (const Case& one : kCases) {
        SCOPED_TRACE(fmt::format("{} {} {} rows, {} heads, {} for one, {} side by side, {} features", isa->name,
                                 name_of(type), one.N, one.layout.heads, one.layout.signal, one.layout.noise, one.D) +
                     (one.clamped() ? ", clamped" : ""));
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
    isa.run(b.forward_into_out(c));
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
    isa.run(DifferenceBackward{b.forward(c), b.d, b.d_x, b.d_lambda});
    std::vector<double> noise_sums(size_t(b.d_x.size())), sizes(size_t(b.d_x.size()));
    for_heads(c, [&](int64_t n, int64_t h, int64_t signal, int64_t noise) {
      const double factor = b.factor(c, n, h), slope = b.slope(c, n, h);
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
    const Case c{3, {2, 1, 1}, 9, Lambda::kLogits};
    Buffers b(DType::kF32, c);
    for (int64_t i = 0; i < b.lambda.size(); ++i) b.lambda.set(i, logit);
    isa.run(b.forward_into_out(c));
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

// In double against differences, through all inputs of both ops. Head 2 of those that are clamped is at an end, where
// there is no such difference.
TEST(Difference, GradientsAreDifferencesOfTheResult) {
  const IsaKernels& isa = *available_isas().back();
  for (const Lambda lambda : {Lambda::kLogits, Lambda::kOne, Lambda::kOfHeads}) {
    const Case c{2, {4, 2, 2}, 5, lambda};
    Buffers b(DType::kF64, c);
    isa.run(DifferenceBackward{b.forward(c), b.d, b.d_x, b.d_lambda});
    const auto loss = [&] {
      isa.run(b.forward_into_out(c));
      double sum = 0;
      for (int64_t n = 0; n < c.N; ++n)
        for (int64_t i = 0; i < c.layout.heads * c.D; ++i) sum += b.out.at(n, i) * b.d.at(n, i);
      return sum;
    };
    for (int64_t n = 0; n < c.N; ++n)
      for (int64_t i = 0; i < c.layout.all_heads() * c.D; ++i)
        EXPECT_NEAR(b.d_x.at(n, i), slope(b.x, n * c.layout.all_heads() * c.D + i, loss), 1e-7);
    double all = 0;
    for (int64_t h = 0; h < c.layout.heads; ++h) {
      double of_head = 0;
      for (int64_t n = 0; n < c.N; ++n) {
        of_head += b.d_lambda.at(n, h);
        if (c.logits()) {
          EXPECT_NEAR(b.d_lambda.at(n, h), slope(b.lambda, n * c.layout.heads + h, loss), 1e-7);
        }
      }
      all += of_head;
      if (c.clamped() && h != 2) {
        EXPECT_NEAR(of_head, slope(b.lambda, h, loss), 1e-7) << h;
        EXPECT_EQ(of_head == 0, Buffers::kOfHeads[h] < 0 || Buffers::kOfHeads[h] > 1) << h;
      }
    }
    if (lambda == Lambda::kOne) {
      EXPECT_NEAR(all, slope(b.lambda, 0, loss), 1e-7);
    }
  }
}

// Factors below 2, sums over at most 256 columns of numbers below 1.
TEST(Difference, WithLearnedFactorsIsTheSameOnADevice) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType type) {
    for (const Case& c : kCases) {
      if (c.logits()) continue;
      Buffers b(type, c);
      expect_parity(
          {b.x, b.lambda, b.d, b.out, b.d_x, b.d_lambda},
          [&](Backend& backend, const Tensors& t) {
            DifferenceForward forward{.layout = c.layout, .x = t[0], .lambda = t[1], .out = {}, .clamped = c.clamped()};
            backend.run(DifferenceBackward{forward, t[2], t[4], t[5]});
            forward.out = t[3];
            backend.run(forward);
          },
          1000);
    }
  });
}

// As clamp of PyTorch has it.
TEST(Difference, ANumberThatIsNoneStaysOneWhenItIsClamped) {
  for (const IsaKernels* isa : available_isas()) {
    const Case c{2, {3, 1, 1}, 5, Lambda::kOfHeads};
    Buffers b(DType::kF32, c);
    b.lambda.set(1, NAN);
    isa->run(b.forward_into_out(c));
    EXPECT_FALSE(std::isnan(b.out.at(0, 0)));
    EXPECT_TRUE(std::isnan(b.out.at(0, c.D)));
  }
}

}  // namespace

SLUICE_OP_EXAMPLE(DifferenceForward, ForwardExample)
SLUICE_OP_EXAMPLE(DifferenceBackward, BackwardExample)
SLUICE_OP_EXAMPLE(DifferenceFactorForward, FactorExample)
SLUICE_OP_EXAMPLE(DifferenceFactorBackward, FactorBackwardExample)

}  // namespace sluice
