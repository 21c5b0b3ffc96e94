// Dropout: an example for the tests that walk the list of ops, the masks against a plain loop over Philox, and what is
// promised of them: mean, variance, independence.
#include "kernels/ops/dropout.h"

#include "kernels/dropout_reference.h"
#include "kernels/op_example.h"

namespace sluice {
namespace {

struct DropoutExample : ExampleBase {
  using ExampleBase::ExampleBase;
  const size_t x = given(C), out = written(C), keys = given_flat(DType::kI32, {N / T, 2});

  Dropout op(const Tensors& t) const {
    return {.out = t[out], .x = t[x], .mask = {.keys = t[keys], .place = 5, .probability = 0.3}};
  }
};

TestBuffer some_keys(int64_t sequences) {
  TestBuffer keys(DType::kI32, sequences, 2);
  for (int64_t i = 0; i < keys.size(); ++i) keys.set(i, double(int32_t(philox(3, 1, uint64_t(i)).word[0])));
  return keys;
}

// Groups of eight and of 64, in whole and in part.
const std::pair<int64_t, int64_t> kRowsAndColumns[] = {{1, 1}, {3, 7}, {4, 8}, {2, 63}, {6, 64}, {5, 65}, {90, 300}};

TEST(Dropout, IsTheMaskOfAPlainLoop) {
  for (const IsaKernels* isa : available_isas())
    for (const DType type : kActivationTypes)
      for (const auto& [T, C] : kRowsAndColumns)
        for (const double probability : {0.0, 0.1, 0.5, 0.99}) {
          SCOPED_TRACE(fmt::format("{} {} {} x {}, p = {}", isa->name, name_of(type), T, C, probability));
          TestBuffer x(type, 2 * T, C, C + 3), out(type, 2 * T, C, C + 1);
          x.randomise(1), poison(out);
          const TestBuffer keys = some_keys(2);
          const DropoutMask mask = {keys, 0xfedcba98u, probability};
          isa->run(Dropout{out, x, mask});
          for (int64_t n = 0; n < 2 * T; ++n)
            for (int64_t c = 0; c < C; ++c) {
              const double factor = dropout_factor(mask, n / T, 0, n % T, c);
              if (factor == 0) ASSERT_EQ(out.at(n, c), 0);
              else ASSERT_TRUE(near_value(out.at(n, c), factor * x.at(n, c), type, std::fabs(factor * x.at(n, c)), 2));
            }
          EXPECT_TRUE(x.untouched() && out.untouched());
          isa->run(Dropout{x, x, mask});
          for (int64_t i = 0; i < x.size(); ++i) ASSERT_EQ(x.at(i), out.at(i)) << "in place";
        }
}

TEST(Dropout, IsTheSameOnAGpu) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType type) {
    for (const auto& [T, C] : kRowsAndColumns)
      for (const int64_t gap : {0, 3, 8}) {
        TestBuffer x(type, 2 * T, C, C + gap), out(type, 2 * T, C, C + 2 * gap);
        x.randomise(1), poison(out);
        const DeviceOp op = [](Backend& backend, const Tensors& t) {
          backend.run(Dropout{t[0], t[1], {t[2], 9, 0.3}});
        };
        const std::vector<TestBuffer> buffers = {out, x, some_keys(2)};
        EXPECT_TRUE(after(cuda_backend(), buffers, op) == after(cpu_backend(), buffers, op)) << T << " x " << C;
      }
  });
}

TEST(Dropout, DropsWhatIsNotFiniteAndKeepsItElse) {
  TestBuffer x(DType::kF32, 4, 40);
  for (int64_t i = 0; i < x.size(); ++i) x.set(i, NAN);
  const TestBuffer keys = some_keys(1);
  const DropoutMask mask = {keys, 1, 0.5};
  (*available_isas().back()).run(Dropout{x, x, mask});
  for (int64_t n = 0; n < 4; ++n)
    for (int64_t c = 0; c < 40; ++c) EXPECT_EQ(std::isnan(x.at(n, c)), dropout_factor(mask, 0, 0, n, c) > 0);
}

// The factors m / (1 - p) of a sequence at a place, [rows, columns].
TestBuffer factors(const TestBuffer& keys, uint32_t place, double probability, int64_t rows, int64_t columns) {
  TestBuffer x(DType::kF32, rows, columns);
  for (int64_t i = 0; i < x.size(); ++i) x.set(i, 1);
  (*available_isas().back()).run(Dropout{x, x, {keys, place, probability}});
  return x;
}

// Of n numbers with mean 1 and variance v = p / (1 - p), the mean is off by 5 deviations, sqrt(v / n), once in two
// million; products of independent ones less their means are too, sqrt(v^2 / n).
TEST(Dropout, HasMeanOneVarianceAndNoCorrelation) {
  constexpr int64_t kRows = 1024, kColumns = 512, kCount = kRows * kColumns;
  for (const double p : {0.1, 0.3, 0.5}) {
    SCOPED_TRACE(p);
    const double variance = p / (1 - p), off = 5 / std::sqrt(double(kCount));
    const TestBuffer keys = some_keys(1);
    TestBuffer others(DType::kI32, 1, 2);
    others.set(0, keys.at(0)), others.set(1, keys.at(1) + 1);
    const TestBuffer x = factors(keys, 1, p, kRows, kColumns), place = factors(keys, 2, p, kRows, kColumns),
                     sequence = factors(others, 1, p, kRows, kColumns);
    double sum = 0, squares = 0, next = 0, row = 0, eighth = 0, of_places = 0, of_sequences = 0;
    for (int64_t i = 0; i < kCount; ++i) {
      const auto centred = [&](const TestBuffer& y, int64_t at) { return y.at(at % kCount) - 1; };
      const double here = centred(x, i);
      sum += here, squares += here * here;
      next += here * centred(x, i + 1), eighth += here * centred(x, i + 8), row += here * centred(x, i + kColumns);
      of_places += here * centred(place, i), of_sequences += here * centred(sequence, i);
    }
    const double n = double(kCount);
    EXPECT_NEAR(sum / n, 0, off * std::sqrt(variance));
    // The square's deviation is below sqrt(p); p itself is off by up to 2^-17.
    EXPECT_NEAR(squares / n, variance, off * std::sqrt(p) + 1e-4);
    for (const double products : {next, row, eighth, of_places, of_sequences})
      EXPECT_NEAR(products / n, 0, off * variance);
  }
}

TEST(Dropout, RefusesWhatDoesNotFit) {
  TestBuffer x(DType::kF32, 6, 4);
  const TestBuffer keys = some_keys(4), two = some_keys(2);
  EXPECT_THROW(cpu_backend().run(Dropout{x, x, {keys, 0, 0.1}}), std::logic_error);
  EXPECT_THROW(cpu_backend().run(Dropout{x, x, {two, 0, 1}}), std::logic_error);
  EXPECT_THROW(cpu_backend().run(Dropout{x, x, {two, 0, -0.1}}), std::logic_error);
  EXPECT_THROW(cpu_backend().run(Dropout{x, x, {}}), std::logic_error);
}

}  // namespace

SLUICE_OP_EXAMPLE(Dropout, DropoutExample)

}  // namespace sluice
