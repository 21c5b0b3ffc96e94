// How far attention in f32 or bf16 may be from attention in f64, and inputs for which that can be said.
//
// What one rounding of everything that is rounded changes is found by making it: each input of an f64 run moved by at
// most u of itself, the row statistics too, and the output by its storage rounding before the backward pass reads it. A
// sum of n products rounds its n partial sums, at random and each up to sqrt(n) times a product in size, where moving
// the operands moves n products: it may be sqrt(n) times as far off, n being the longest sum (features of a head, or
// queries that share a key). The largest of a few such runs counts; kMargin leaves room for exponentials and for chance
// (measured on the CPU: at most half of that, but for one gradient of a key bias that is nearly 0). The result's own
// rounding comes on top. All arithmetic of bf16 is f32: its bound differs in the storage only.
#pragma once

#include <algorithm>

#include "kernels/attention_reference.h"

namespace sluice {

inline constexpr double kMargin = 2;
inline constexpr uint64_t kMovedRuns = 3;

inline const IsaKernels& widest() { return *available_isas().back(); }

// Changes the constants so that no weight of the problem, with its masks, lies near a kink.
inline void keep_off_kinks(AttentionCase& problem) {
  const ScoreReference reference = reference_of(problem.spec.score);
  if (reference.avoid_kinks) reference.avoid_kinks(problem);
}

// Inputs at which the score function is smooth: at usual constants too, where kinks follow what is learned.
inline AttentionCase smooth_case(ScoreKind score, const AttentionShape& shape, Slot slot, DType act, bool unusual) {
  AttentionCase out(score, shape, slot, act);
  out.randomise_off_kinks();
  if (unusual) out.use_unusual_constants();
  if (unusual || !out.learned.empty()) keep_off_kinks(out);
  return out;
}

// body(problem) for a smooth case as it is and with masks, which change the weights.
template <class Body>
void with_and_without_masks_smoothly(const AttentionCase& smooth, Body body) {
  with_and_without_masks(smooth, [&](AttentionCase& problem) {
    if (problem.documents || problem.ordered || problem.both_sides || problem.spec.window > 0) keep_off_kinks(problem);
    body(problem);
  });
}

// Results of a run by name: out and every part's gradient.
struct Result {
  std::string name;
  DType type;
  Values values;
};
inline std::vector<Result> results_of(AttentionCase& run, const Values& out) {
  std::vector<Result> results = {{"out", run.out.tensor().dtype, out}};
  for (const AttentionPart& part : run.parts())
    results.push_back({std::string("gradient of ") + part.name, part.gradient->tensor().dtype, gradient_of(part)});
  return results;
}

// The same problem, run forward and backward in f64.
inline AttentionCase run_in_f64(const AttentionCase& problem) {
  AttentionCase run = problem.in_f64();
  run.forward(widest()).backward(widest());
  return run;
}

// What rounds: the arithmetic, each time by a share of at most `arithmetic`, and the stored output, element by element.
struct Roundings {
  double arithmetic;
  Values output;
};
inline Roundings roundings_of(const AttentionCase& problem, const Values& exact_output) {
  const DType act = problem.qkv.tensor().dtype;
  Roundings out{rounding_of(accumulator_of(act)), exact_output};
  for (double& x : out.output) x = rounding_of(act) * std::fabs(x);
  return out;
}

inline void move(TestBuffer& x, double by, uint64_t stream) {
  for (int64_t i = 0; i < x.size(); ++i) x.set(i, x.at(i) * (1 + by * random_unit(stream, uint64_t(i))));
}
inline std::vector<Result> moved_results(const AttentionCase& problem, const Roundings& roundings, uint64_t seed) {
  uint64_t stream = 40 + 16 * seed;
  AttentionCase run = problem.in_f64();
  for (TestBuffer* x : {&run.qkv, &run.key_bias, &run.value_bias, &run.d_out}) move(*x, roundings.arithmetic, stream++);
  for (TestBuffer& x : run.learned) move(x, roundings.arithmetic, stream++);
  run.forward(widest());
  const Values out = values_of(run.out);
  move(run.stats, roundings.arithmetic, stream++);
  for (int64_t i = 0; i < run.out.size(); ++i)
    run.out.set(i, run.out.at(i) + roundings.output[size_t(i)] * random_unit(stream, uint64_t(i)));
  run.backward(widest());
  return results_of(run, out);
}

// Allowed distances from `exact`, result by result, storage rounding not counted.
inline Values bounds_of(const AttentionCase& problem, const std::vector<Result>& exact, const Roundings& roundings) {
  const AttentionShape& s = problem.spec.shape;
  const double longest_sum = double(std::max({s.D_qk, s.D_v, s.B * s.T * s.H / s.KV}));
  Values bounds(exact.size());
  for (uint64_t seed = 0; seed < kMovedRuns; ++seed) {
    const std::vector<Result> moved = moved_results(problem, roundings, seed);
    for (size_t i = 0; i < exact.size(); ++i)
      bounds[i] = std::max(bounds[i], kMargin * std::sqrt(longest_sum) * distance(moved[i].values, exact[i].values));
  }
  return bounds;
}

// Of every instruction set: what f32 or bf16 are off is rounding. Not of a row's only key, or of a key bias without a
// value, whose gradients are nearly 0.
inline void expect_rounding_away(const AttentionCase& problem) {
  if (problem.spec.shape.T == 1 || problem.slot == Slot::kKey) return;
  AttentionCase wide = run_in_f64(problem);
  const std::vector<Result> exact = results_of(wide, values_of(wide.out));
  const Values bounds = bounds_of(problem, exact, roundings_of(problem, exact[0].values));
  for (const IsaKernels* isa : available_isas()) {
    SCOPED_TRACE(std::string(isa->name) + " " + name_of(problem.qkv.tensor().dtype));
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
}

}  // namespace sluice
