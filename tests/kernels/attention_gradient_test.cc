// Attention backward, for every registered score function: in f64 against finite differences of the forward pass, then
// f32 and bf16 against f64.
//
// Finite differences are taken along a random direction r over a whole tensor: (L(x + h r) - L(x - h r)) / 2h = <dL/dx,
// r>, where L = <d_out, out>. One wrong element of the gradient among n shows as 1/sqrt(n) of the sum, far above the
// bound of 1e-7: a direction covers every element, which samples of single elements do not. Inputs keep away from
// kinks.
#include "kernels/attention_bounds.h"

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

// L(x + h r) - L(x - h r) over 2h, with r the direction of this stream.
double finite_difference(AttentionCase& problem, const AttentionPart& part, const Values& direction) {
  constexpr double kStep = 3e-6;
  const Values here = input_of(part), weight = values_of(problem.d_out);
  const int64_t cols = part.input->tensor().cols();
  const auto go_to = [&](double step) {
    for (int64_t i = 0; i < int64_t(here.size()); ++i)
      part.input->set(i / part.count * cols + part.first + i % part.count,
                      here[size_t(i)] + step * direction[size_t(i)]);
  };
  go_to(kStep);
  const Values above = values_of(problem.forward(widest()).out);
  go_to(-kStep);
  const Values below = values_of(problem.forward(widest()).out);
  go_to(0);
  long double sum = 0;
  for (size_t i = 0; i < above.size(); ++i) sum += (long double)(weight[i]) * (above[i] - below[i]);
  return double(sum / (2 * kStep));
}

// <gradient, direction> against the finite difference along it. A gradient that is zero (of a softmax over one key)
// leaves rounding over the step: 1e-16 / 3e-6, a few times.
void check_part(AttentionCase& problem, const AttentionPart& part) {
  const Values gradient = gradient_of(part);
  Values direction(gradient.size()), products(gradient.size());
  long double sum = 0;
  for (size_t i = 0; i < gradient.size(); ++i) {
    const double r = random_unit(20, i);
    direction[i] = r + std::copysign(0.5, r);  // no element is left out
    products[i] = gradient[i] * direction[i];
    sum += products[i];
  }
  EXPECT_NEAR(double(sum), finite_difference(problem, part, direction), 1e-7 * norm_of(products) + 2e-9) << part.name;
}

TEST(AttentionGradient, IsTheFiniteDifference) {
  for_problems(DType::kF64, [](AttentionCase& problem) {
    AttentionCase expected = problem;
    expected.forward(widest()).backward(widest());
    EXPECT_TRUE(expected.untouched());
    for (const IsaKernels* isa : available_isas()) {
      SCOPED_TRACE(isa->name);
      AttentionCase run = problem;
      run.forward(*isa).backward(*isa);
      const auto got = run.parts(), want = expected.parts();
      for (size_t i = 0; i < got.size(); ++i)
        EXPECT_LE(distance(gradient_of(got[i]), gradient_of(want[i])), 1e-13 + 1e-12 * norm_of(gradient_of(want[i])))
            << got[i].name;
      EXPECT_TRUE(run.untouched());
    }
    for (const AttentionPart& part : expected.parts()) check_part(expected, part);
  });
}

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
  for (const DType act : {DType::kF32, DType::kBF16})
    for_problems(act, [&](const AttentionCase& problem) {
      if (problem.spec.shape.T == 1 || problem.slot == Slot::kKey) return;
      AttentionCase wide = run_in_f64(problem);
      const std::vector<Result> exact = results_of(wide, values_of(wide.out));
      const Values bounds = bounds_of(problem, exact, roundings_of(problem, exact[0].values));
      for (const IsaKernels* isa : available_isas()) {
        SCOPED_TRACE(std::string(isa->name) + " " + name_of(act));
        AttentionCase run = problem;
        run.forward(*isa).backward(*isa);
        const std::vector<Result> got = results_of(run, values_of(run.out));
        for (size_t i = 0; i < got.size(); ++i) {
          const double error = distance(got[i].values, exact[i].values);
          const double storage = rounding_of(got[i].type) * norm_of(exact[i].values);
          EXPECT_LE(error, bounds[i] + storage) << got[i].name;
        }
        EXPECT_TRUE(run.untouched());
      }
    });
}

}  // namespace
}  // namespace sluice
