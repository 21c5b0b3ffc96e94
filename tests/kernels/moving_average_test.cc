// MovingAverage: an example for the tests that walk the list of ops, and what it computes against a plain loop in
// double.
#include "kernels/ops/moving_average.h"

#include <gtest/gtest.h>

#include "kernels/op_example.h"

namespace sluice {
namespace {

struct MovingAverageExample : ExampleBase {
  using ExampleBase::ExampleBase;
  const size_t average = given_flat(acc, {N * C}), x = given_flat(acc, {N * C});

  MovingAverage op(const Tensors& t) const { return {t[average], t[x], 0.9}; }
};

TEST(MovingAverage, KeepsItsShareOfWhatWasThereAndAddsTheRest) {
  for (const IsaKernels* isa : available_isas())
    for (const DType type : {DType::kF32, DType::kF64})
      for (const int64_t n : {1, 15, 4097, 40001})
        for (const double keep : {0.0, 0.75, 0.999, 1.0}) {
          TestBuffer average(type, Shape{n}), x(type, Shape{n});
          average.randomise(1);
          x.randomise(2);
          const TestBuffer before = average;
          isa->run(MovingAverage{average, x, keep});
          // Both factors are rounded to the type, then two products and a sum.
          for (int64_t i = 0; i < n; ++i)
            ASSERT_TRUE(near_value(average.at(i), keep * before.at(i) + (1 - keep) * x.at(i), type,
                                   std::fabs(before.at(i)) + std::fabs(x.at(i)), 4))
                << isa->name << " " << n << " " << keep;
          EXPECT_TRUE(average.untouched() && x.untouched());
        }
}

}  // namespace

SLUICE_OP_EXAMPLE(MovingAverage, MovingAverageExample)

}  // namespace sluice
