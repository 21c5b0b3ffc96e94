// Causal means: examples for the tests that walk the list of ops, and the ops against plain loops in double.
#include "kernels/ops/stages/prefix_mean.h"

#include <gtest/gtest.h>

#include "kernels/op_example.h"

namespace sluice {
namespace {

// Documents of 1, 2, 3, ... rows, from the beginning again in every sequence.
int64_t start_of(int64_t place) {
  int64_t start = 0;
  for (int64_t length = 1; start + length <= place; ++length) start += length;
  return start;
}

void set_documents(TestBuffer& first_key, int64_t T) {
  for (int64_t n = 0; n < first_key.size(); ++n) first_key.set(n, double(start_of(n % T)));
}

struct PrefixExample : ExampleBase {
  static constexpr int64_t kColumns = 45;
  using ExampleBase::ExampleBase;
  const size_t x = given(kColumns), first_key = given_flat(DType::kI32, {N});
  PrefixExample(DType act, int64_t gap, int64_t N) : ExampleBase(act, gap, N) { set_documents(buffers[first_key], T); }
};

struct MeanExample : PrefixExample {
  using PrefixExample::PrefixExample;
  const size_t out = written(kColumns);
  PrefixMean op(const Tensors& t) const { return {.T = T, .x = t[x], .first_key = t[first_key], .out = t[out]}; }
};

struct BackwardExample : PrefixExample {
  using PrefixExample::PrefixExample;
  const size_t d_x = given(kColumns);
  PrefixMeanBackward op(const Tensors& t) const {
    return {.T = T, .divisor = 3, .d_out = t[x], .first_key = t[first_key], .d_x = t[d_x]};
  }
};

// ---- against plain loops --------------------------------------------------------------------------------------------

struct Case {
  int64_t B, T, C;
  bool documents;
  double divisor;
};
const Case kCases[] = {{1, 1, 1, false, 0},     {2, 9, 7, false, 0},  {2, 9, 7, true, 0},    {3, 40, 130, true, 50},
                       {1, 70, 300, false, 70}, {1, 300, 5, true, 0}, {2, 130, 33, false, 0}};

struct Buffers {
  Case c;
  TestBuffer x, first_key, y;
  Buffers(DType type, const Case& c)
      : c(c),
        x(type, c.B * c.T, c.C, c.C + 3),
        first_key(DType::kI32, Shape{c.B * c.T}),
        y(type, c.B * c.T, c.C, c.C + 1) {
    x.randomise(1), y.randomise(2), set_documents(first_key, c.T);
  }
  Tensor documents() const { return c.documents ? first_key.tensor() : Tensor{}; }
  int64_t start(int64_t t) const { return c.documents ? start_of(t) : 0; }
  double length(int64_t t) const { return c.divisor > 0 ? c.divisor : double(t - start(t) + 1); }
  PrefixMean mean() const { return {.T = c.T, .divisor = c.divisor, .x = x, .first_key = documents(), .out = y}; }
  PrefixMeanBackward backward() const {
    return {.T = c.T, .divisor = c.divisor, .d_out = x, .first_key = documents(), .d_x = y};
  }
};

// body(isa, type, buffers)
template <class Body>
void for_cases(Body body) {
  for_kernels([&](const IsaKernels& isa, DType type) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(
          fmt::format("{} of {} rows, {} columns, documents {}, by {}", c.B, c.T, c.C, c.documents, c.divisor));
      Buffers b(type, c);
      body(isa, type, b);
    }
  });
}

TEST(PrefixMean, IsTheMeanOfTheRowsThatARowSees) {
  for_cases([](const IsaKernels& isa, DType type, Buffers& b) {
    isa.run(b.mean());
    for (int64_t n = 0; n < b.c.B * b.c.T; ++n)
      for (int64_t col = 0; col < b.c.C; ++col) {
        const int64_t t = n % b.c.T;
        double sum = 0, size = 0;
        for (int64_t j = b.start(t); j <= t; ++j) {
          const double x = b.x.at(n - t + j, col);
          sum += x, size += std::fabs(x);
        }
        ASSERT_TRUE(near_value(b.y.at(n, col), sum / b.length(t), type, size / b.length(t), 3 + double(t)))
            << n << " " << col;
      }
    EXPECT_TRUE(b.y.untouched());
  });
}

TEST(PrefixMean, HasTheGradientOfTheForwardPass) {
  for_cases([](const IsaKernels& isa, DType type, Buffers& b) {
    const TestBuffer before = b.y;
    isa.run(b.backward());
    for (int64_t n = 0; n < b.c.B * b.c.T; ++n)
      for (int64_t col = 0; col < b.c.C; ++col) {
        const int64_t t = n % b.c.T;
        double sum = before.at(n, col), size = std::fabs(sum);
        for (int64_t i = t; i < b.c.T && b.start(i) == b.start(t); ++i) {
          const double term = b.x.at(n - t + i, col) / b.length(i);
          sum += term, size += std::fabs(term);
        }
        ASSERT_TRUE(near_value(b.y.at(n, col), sum, type, size, 4 + double(b.c.T - t))) << n << " " << col;
      }
    EXPECT_TRUE(b.y.untouched());
  });
}

// A decoder's steps: some rows at once, then one after the other, with the sums of those before.
TEST(PrefixMean, GoesOnFromTheSumsOfWhatCameBefore) {
  for (const double by : {0.0, 11.0}) {
    for_kernels([&](const IsaKernels& isa, DType type) {
      constexpr int64_t B = 2, T = 9, C = 21, kFirst = 4;
      Buffers b(type, {B, T, C, false, by});
      isa.run(b.mean());
      TestBuffer x(type, B * kFirst, C), out(type, B * kFirst, C), sums(accumulator_of(type), B, C), one(type, B, C),
          next(type, B, C);
      sums.randomise(9);  // of another text: not looked at
      for (int64_t s = 0; s < B; ++s)
        for (int64_t i = 0; i < kFirst * C; ++i) x.set(s * kFirst * C + i, b.x.at(s * T * C + i));
      isa.run(PrefixMean{.T = kFirst, .divisor = by, .x = x, .sums = sums, .out = out});
      for (int64_t t = kFirst; t < T; ++t) {
        for (int64_t s = 0; s < B; ++s)
          for (int64_t c = 0; c < C; ++c) one.set(s * C + c, b.x.at(s * T + t, c));
        isa.run(PrefixMean{.T = 1, .divisor = by, .first_position = t, .x = one, .sums = sums, .out = next});
        for (int64_t s = 0; s < B; ++s)
          for (int64_t c = 0; c < C; ++c) ASSERT_EQ(next.at(s, c), b.y.at(s * T + t, c)) << t << " " << s << " " << c;
      }
      EXPECT_TRUE(sums.untouched());
    });
  }
}

TEST(PrefixMean, RefusesWhatIsNoDocument) {
  const auto backend = make_cpu_backend();
  Buffers b(DType::kF32, {1, 6, 2, true, 0});
  b.first_key.set(4, 2);
  EXPECT_THROW(backend->run(b.mean()), std::logic_error);
  EXPECT_THROW(backend->run(b.backward()), std::logic_error);
}

// With sums, as a decoder has them, on every device.
TEST(PrefixMean, GoesOnTheSameOnEveryDevice) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for (const DType type : {DType::kF32, DType::kBF16})
    for (const auto& [T, first] : {std::pair<int64_t, int64_t>{1, 5}, {3, 0}, {20, 7}}) {
      TestBuffer x(type, 2 * T, 37, 40), sums(accumulator_of(type), 2, 37), out(type, 2 * T, 37);
      x.randomise(1), sums.randomise(2);
      expect_parity(
          {x, sums, out},
          [&, T = T, first = first](Backend& on, const Tensors& t) {
            on.run(PrefixMean{.T = T, .first_position = first, .x = t[0], .sums = t[1], .out = t[2]});
          },
          100);
    }
}

}  // namespace

SLUICE_OP_EXAMPLE(PrefixMean, MeanExample)
SLUICE_OP_EXAMPLE(PrefixMeanBackward, BackwardExample)

}  // namespace sluice
