// Attention backward, for every registered score function: in f64 against finite differences of the forward pass, then
// f32 and bf16 against f64.
#include "kernels/attention_bounds.h"
#include "kernels/attention_slopes.h"

namespace sluice {
namespace {

// One key only; part of a tile, heads shared; tile edges with shared heads and more than one batch; the widest
// head; values wider or narrower than keys.
const AttentionShape kShapes[] = {{1, 1, 1, 1, 16, 16},   {3, 21, 4, 2, 20, 20},   {1, 65, 4, 2, 16, 32},
                                  {2, 130, 2, 1, 20, 20}, {1, 65, 1, 1, 256, 256}, {1, 70, 2, 1, 40, 20}};

template <class Test>
void for_problems(DType act, Test test) {
  for_scores([&](ScoreKind score) {
    bool unusual = false;
    for (const AttentionShape& shape : kShapes)
      for (const Slot slot : kSlots) {
        SCOPED_TRACE(describe(shape, slot));
        with_and_without_masks_smoothly(smooth_case(score, shape, slot, act, unusual = !unusual), test);
      }
  });
}

TEST(AttentionGradient, IsTheFiniteDifference) { for_problems(DType::kF64, expect_finite_differences); }

TEST(AttentionGradient, AccumulatesTheParameters) {
  for_scores([](ScoreKind score) {
    for_kernels([&](const IsaKernels& isa, DType act) {
      AttentionCase once = smooth_case(score, {2, 70, 4, 2, 20}, Slot::kKeyValue, act, false);
      once.forward(isa);
      AttentionCase added = once;
      const auto of_one = once.parts(), of_sum = added.parts();
      std::vector<Values> before;
      for (size_t part = 3; part < of_sum.size(); ++part)
        before.push_back(values_of(of_sum[part].gradient->randomise(30 + part)));
      once.backward(isa);
      added.backward(isa, true);
      EXPECT_TRUE(once.d_qkv == added.d_qkv);  // never accumulated
      for (size_t part = 3; part < of_sum.size(); ++part) {
        const Values got = gradient_of(of_sum[part]), change = gradient_of(of_one[part]), &start = before[part - 3];
        for (size_t i = 0; i < got.size(); ++i)
          EXPECT_TRUE(near_value(got[i], start[i] + change[i], accumulator_of(act), 0, 0)) << of_sum[part].name;
      }
      EXPECT_TRUE(added.untouched());
    });
  });
}

// ---- f32 and bf16 against f64 ------------------------------------------------------------------------------------

TEST(AttentionPrecision, NarrowTypesAreRoundingAway) {
  for (const DType act : {DType::kF32, DType::kBF16}) for_problems(act, expect_rounding_away);
}

}  // namespace
}  // namespace sluice
