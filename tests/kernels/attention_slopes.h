// Gradients of attention in f64 against finite differences of its forward pass.
//
// Differences are taken along a random direction r over a whole tensor: (L(x + h r) - L(x - h r)) / 2h = <dL/dx, r>,
// where L = <d_out, out>. One wrong element of the gradient among n shows as 1/sqrt(n) of the sum, far above the bound
// of 1e-7: a direction covers every element, which samples of single elements do not. Inputs keep away from kinks.
#pragma once

#include "kernels/attention_bounds.h"

namespace sluice {

// L(x + h r) - L(x - h r) over 2h, with r the direction of this stream.
inline double finite_difference(AttentionCase& problem, const AttentionPart& part, const Values& direction) {
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
inline void check_part(AttentionCase& problem, const AttentionPart& part) {
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

// Of every instruction set the gradients of the widest, and these against finite differences.
inline void expect_finite_differences(const AttentionCase& problem) {
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
}

}  // namespace sluice
