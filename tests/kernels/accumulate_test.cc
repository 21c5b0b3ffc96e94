// Accumulate: an example for the tests that walk the list of ops, and what it computes against a plain loop in double.
#include "kernels/ops/accumulate.h"

#include <gtest/gtest.h>

#include "kernels/op_example.h"

namespace sluice {
namespace {

struct AccumulateExample : ExampleBase {
  using ExampleBase::ExampleBase;
  const size_t out = given(C), x = given(C);

  Accumulate op(const Tensors& t) const { return {t[out], t[x]}; }
};

TEST(Accumulate, PutsOneTensorOntoAnother) {
  for (const IsaKernels* isa : available_isas())
    for (const DType type : {DType::kF32, DType::kBF16, DType::kF64})
      for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {3, 17}, {5, 64}, {300, 130}})
        for (const int64_t gap : {0, 3}) {
          TestBuffer out(type, rows, cols, cols + gap), x(type, rows, cols, cols + 2 * gap);
          out.randomise(1);
          x.randomise(2);
          const TestBuffer before = out;
          isa->run(Accumulate{out, x});
          for (int64_t n = 0; n < rows; ++n)
            for (int64_t c = 0; c < cols; ++c)
              ASSERT_TRUE(near_value(out.at(n, c), before.at(n, c) + x.at(n, c), type,
                                     std::fabs(before.at(n, c)) + std::fabs(x.at(n, c)), 1))
                  << isa->name << " " << n << " " << c;
          EXPECT_TRUE(out.untouched());
        }
}

}  // namespace

SLUICE_OP_EXAMPLE(Accumulate, AccumulateExample)

}  // namespace sluice
