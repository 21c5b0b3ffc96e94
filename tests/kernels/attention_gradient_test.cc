// Attention backward, for every registered score function: in f64 against finite differences of the forward pass, then
// f32 and bf16 against f64.
//
// Finite differences are taken along a random direction r over a whole tensor: (L(x + h r) - L(x - h r)) / 2h = <dL/dx,
// r>, where L = <d_out, out>. One wrong element of the gradient among n shows as 1/sqrt(n) of the sum, far above the
// bound of 1e-7: a direction covers every element, which samples of single elements do not. Inputs keep away from
// kinks.
#include <algorithm>

#include "kernels/attention_reference.h"

namespace sluice {
namespace {

// One key only; part of a tile, heads shared; tile edges with shared heads and more than one batch; the widest head.
const AttentionShape kShapes[] = {
    {1, 1, 1, 1, 16}, {3, 21, 4, 2, 20}, {1, 65, 4, 2, 16}, {2, 130, 2, 1, 20}, {1, 65, 1, 1, 256}};

const IsaKernels& widest() { return *available_isas().back(); }

// The largest gap, as a ratio, between neighbours among the softmax weights in [0.005, 0.5]; its middle.
double widest_gap(const AttentionCase& problem) {
  AttentionCase softmax = problem;
  softmax.spec.score = ScoreKind::kSoftmax;
  const AttentionReference reference(softmax);
  Values weights = {0.005, 0.5};
  reference.for_rows([&](int64_t b, int64_t h, int64_t i) {
    for (const double p : reference.row(b, h, i).weights)
      if (p > 0.005 && p < 0.5) weights.push_back(p);
  });
  std::sort(weights.begin(), weights.end());
  double ratio = 1, middle = 0.05;
  for (size_t i = 1; i < weights.size(); ++i)
    if (weights[i] / weights[i - 1] > ratio)
      ratio = weights[i] / weights[i - 1], middle = std::sqrt(weights[i] * weights[i - 1]);
  return middle;
}

// Inputs at which the score function is smooth.
AttentionCase smooth_case(ScoreKind score, const AttentionShape& shape, Slot slot, DType act, bool unusual) {
  AttentionCase out(score, shape, slot, act);
  out.randomise_off_kinks();
  if (!unusual) return out;
  out.spec.constants = kUnusual;
  if (score != ScoreKind::kClippedSoftmax) return out;
  const double kink = widest_gap(out);  // weights below it are clipped to 0
  out.spec.constants.gamma = -kink * kUnusual.zeta / (1 - kink);
  return out;
}

template <class Test>
void for_problems(DType act, Test test) {
  for_scores([&](ScoreKind score) {
    bool unusual = false;
    for (const AttentionShape& shape : kShapes)
      for (const Slot slot : kSlots) {
        SCOPED_TRACE(describe(shape, slot));
        AttentionCase problem = smooth_case(score, shape, slot, act, unusual = !unusual);
        test(problem);
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

// What one rounding of everything that is rounded changes, found by making it: each input of an f64 run moved by at
// most u of itself, the row statistics too, and the output by its storage rounding before the backward pass reads it. A
// sum of n products rounds its n partial sums, at random and each up to sqrt(n) times a product in size, where moving
// the operands moves n products: it may be sqrt(n) times as far off, n being the longest sum (features of a head, or
// queries that share a key). The largest of a few such runs counts; kMargin leaves room for exponentials and for chance
// (measured: at most half of that, but for one gradient of a key bias that is nearly 0). The result's own rounding
// comes on top. All arithmetic of bf16 is f32: its bound differs in the storage only.
constexpr double kMargin = 2;
constexpr uint64_t kMovedRuns = 3;

void move(TestBuffer& x, double by, uint64_t stream) {
  for (int64_t i = 0; i < x.size(); ++i) x.set(i, x.at(i) * (1 + by * random_unit(stream, uint64_t(i))));
}

// Results of a run by name: out and every part's gradient.
struct Result {
  std::string name;
  DType type;
  Values values;
};
std::vector<Result> results_of(AttentionCase& run, const Values& out) {
  std::vector<Result> results = {{"out", run.out.tensor().dtype, out}};
  for (const AttentionPart& part : run.parts())
    results.push_back({std::string("gradient of ") + part.name, part.gradient->tensor().dtype, gradient_of(part)});
  return results;
}

std::vector<Result> exact_results(const AttentionCase& problem) {
  AttentionCase run = problem.in_f64();
  run.forward(widest()).backward(widest());
  return results_of(run, values_of(run.out));
}
std::vector<Result> moved_results(const AttentionCase& problem, uint64_t seed) {
  const DType act = problem.qkv.tensor().dtype;
  const double u = rounding_of(accumulator_of(act));
  uint64_t stream = 40 + 16 * seed;
  AttentionCase run = problem.in_f64();
  for (TestBuffer* x : {&run.qkv, &run.key_bias, &run.value_bias, &run.sink_logit, &run.d_out}) move(*x, u, stream++);
  run.forward(widest());
  const Values out = values_of(run.out);
  move(run.stats, u, stream++);
  move(run.out, rounding_of(act), stream++);
  run.backward(widest());
  return results_of(run, out);
}

// Allowed distances from `exact`, result by result.
Values bounds_of(const AttentionCase& problem, const std::vector<Result>& exact) {
  const AttentionShape& s = problem.spec.shape;
  const double longest_sum = double(std::max(s.D, s.B * s.T * s.H / s.KV));
  Values bounds(exact.size());
  for (uint64_t seed = 0; seed < kMovedRuns; ++seed) {
    const std::vector<Result> moved = moved_results(problem, seed);
    for (size_t i = 0; i < exact.size(); ++i)
      bounds[i] = std::max(bounds[i], kMargin * std::sqrt(longest_sum) * distance(moved[i].values, exact[i].values));
  }
  return bounds;
}

TEST(AttentionPrecision, NarrowTypesAreRoundingAway) {
  for (const DType act : {DType::kF32, DType::kBF16})
    for_problems(act, [&](const AttentionCase& problem) {
      if (problem.spec.shape.T == 1 || problem.slot == Slot::kKey) return;
      const std::vector<Result> exact = exact_results(problem);
      const Values bounds = bounds_of(problem, exact);
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
