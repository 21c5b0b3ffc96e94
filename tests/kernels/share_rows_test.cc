// Rows of one sequence for all: examples for the tests that walk the list of ops, and the ops against plain loops.
#include "kernels/ops/stages/share_rows.h"

#include <gtest/gtest.h>

#include "kernels/op_example.h"

namespace sluice {
namespace {

struct ForwardExample : ExampleBase {
  using ExampleBase::ExampleBase;
  const size_t x = given_flat(act, {T, C}), out = written(C);

  ShareRowsForward op(const Tensors& t) const { return {.out = t[out], .x = t[x]}; }
};

struct BackwardExample : ExampleBase {
  using ExampleBase::ExampleBase;
  const size_t d_x = given_flat(act, {T, C}), d_out = given(C);

  ShareRowsBackward op(const Tensors& t) const { return {.d_x = t[d_x], .d_out = t[d_out]}; }
};

struct Case {
  int64_t B, T, C, gap;
};
const Case kCases[] = {{1, 1, 1, 0}, {3, 5, 17, 0}, {4, 7, 64, 3}, {2, 150, 130, 1}};

template <class Body>
void for_cases(Body body) {
  for (const IsaKernels* isa : available_isas())
    for (const DType type : kActivationTypes)
      for (const Case& c : kCases) {
        TestBuffer one(type, c.T, c.C, c.C + 2 * c.gap), all(type, c.B * c.T, c.C, c.C + c.gap);
        one.randomise(1);
        all.randomise(2);
        SCOPED_TRACE(fmt::format("{} {} {}x{}x{}", isa->name, name_of(type), c.B, c.T, c.C));
        body(*isa, c, type, one, all);
        EXPECT_TRUE(one.untouched());
        EXPECT_TRUE(all.untouched());
      }
}

TEST(ShareRows, GivesEverySequenceTheRows) {
  for_cases([](const IsaKernels& isa, const Case& c, DType, TestBuffer& one, TestBuffer& all) {
    isa.run(ShareRowsForward{.out = all, .x = one});
    for (int64_t n = 0; n < c.B * c.T; ++n)
      for (int64_t i = 0; i < c.C; ++i) ASSERT_EQ(all.at(n, i), one.at(n % c.T, i)) << n << " " << i;
  });
}

TEST(ShareRows, AddsUpTheGradientsOfAllSequences) {
  for_cases([](const IsaKernels& isa, const Case& c, DType type, TestBuffer& one, TestBuffer& all) {
    const TestBuffer before = one;
    isa.run(ShareRowsBackward{.d_x = one, .d_out = all});
    for (int64_t t = 0; t < c.T; ++t)
      for (int64_t i = 0; i < c.C; ++i) {
        double sum = before.at(t, i), size = std::fabs(sum);
        for (int64_t b = 0; b < c.B; ++b) sum += all.at(b * c.T + t, i), size += std::fabs(all.at(b * c.T + t, i));
        ASSERT_TRUE(near_value(one.at(t, i), sum, type, size, double(c.B))) << t << " " << i;
      }
  });
}

}  // namespace

SLUICE_OP_EXAMPLE(ShareRowsForward, ForwardExample)
SLUICE_OP_EXAMPLE(ShareRowsBackward, BackwardExample)

}  // namespace sluice
