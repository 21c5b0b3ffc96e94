// One step of a decoder for tests: an attention problem whose last rows are the queries, and what they are compared
// with.
#pragma once

#include "kernels/attention_reference.h"

namespace sluice {

struct DecodeCase {
  AttentionCase problem;  // [B, length]: the tokens so far
  AttentionSpec spec;     // of the cache: its T is the capacity
  TestBuffer cache, q, out, workspace;

  DecodeCase(ScoreKind score, const AttentionShape& s, Slot slot, DType act, int64_t length)
      : problem(score, {s.B, length, s.H, s.KV, s.D_qk, s.D_v}, slot, act),
        cache(act, s.B * s.T, cached_columns(s), cached_columns(s) + 8),
        q(act, s.B, s.heads().query_columns(), s.heads().query_columns() + 8),
        out(act, s.B, s.heads().result_columns(), s.heads().result_columns() + 3),
        workspace(accumulator_of(act), 1, AttentionDecodeWorkspace(s).total) {
    problem.randomise();
    spec = problem.spec;
    spec.shape.T = s.T;
    for (const TestBuffer* buffer : {&cache, &out, &workspace}) poison(*buffer);
    const int64_t cols = s.heads().projected_columns(), queries = s.heads().query_columns(), cached = cached_columns(s);
    for (int64_t b = 0; b < s.B; ++b) {
      for (int64_t j = 0; j < length; ++j)
        for (int64_t c = 0; c < cached; ++c)
          cache.set((b * s.T + j) * cached + c, problem.qkv.at((b * length + j) * cols + queries + c));
      for (int64_t c = 0; c < queries; ++c)
        q.set(b * queries + c, problem.qkv.at((b * length + length - 1) * cols + c));
    }
  }

  static int64_t cached_columns(const AttentionShape& s) { return s.heads().key_columns() + s.heads().value_columns(); }

  AttentionDecode args() const {
    const HeadSizes heads = spec.shape.heads();
    const AttentionForward whole = problem.forward_args();
    AttentionDecode args;
    args.spec = spec;
    args.spec.constants = problem.spec.constants;
    args.spec.window = problem.spec.window;
    args.length = problem.spec.shape.T;
    args.q = q;
    args.k = cache.tensor().columns(0, heads.key_columns());
    args.v = cache.tensor().columns(heads.key_columns(), heads.value_columns());
    args.key_bias = whole.key_bias, args.value_bias = whole.value_bias, args.learned = whole.learned;
    args.out = out;
    args.workspace = workspace;
    return args;
  }

  // The query sees the last `window` keys alone; those before them must not be read.
  void see_last(int64_t window) {
    problem.spec.window = window;
    const int64_t length = problem.spec.shape.T, cached = cache.tensor().cols();
    for (int64_t b = 0; b < spec.shape.B; ++b)
      for (int64_t i = 0; i < (length - window) * cached; ++i) cache.set(b * spec.shape.T * cached + i, std::nan(""));
  }

  // A NaN among the features 7 of the query, or of a key or value.
  void spoil(int64_t part) {
    if (part == 0) q.set(7, std::nan(""));
    else cache.set(3 * cache.tensor().cols() + (part - 1) * spec.shape.heads().key_columns() + 7, std::nan(""));
  }

  // A score is off by up to (D + 2) roundings of its products' sizes; an exponential multiplies its weight by e to
  // that, its normaliser too, and sums over n keys add n roundings. Weights change by no more than that share of their
  // sum (clipped_softmax: of its stretch).
  void check_output() const {
    const AttentionReference reference(problem);
    const AttentionShape& s = spec.shape;
    const int64_t length = problem.spec.shape.T;
    const double u = rounding_of(accumulator_of(out.tensor().dtype));
    double largest = 0;
    for (const Values& values :
         {values_of(problem.qkv, (s.H + s.KV) * s.D_qk, s.KV * s.D_v), values_of(problem.value_bias)})
      for (const double v : values) largest = std::max(largest, std::fabs(v));
    for (int64_t b = 0; b < s.B; ++b)
      for (int64_t h = 0; h < s.H; ++h) {
        const ReferenceRow row = reference.row(b, h, length - 1);
        const Values expected = reference.output(b, h, length - 1, row);
        double mass = 0;
        for (const double p : row.weights) mass += p;
        mass = std::max(mass, reference.stretch());
        const double size = *std::max_element(row.sizes.begin(), row.sizes.end());
        const double bound = (2 * double(s.D_qk + 2) * size + double(length) + 6) * u * mass * largest;
        for (int64_t d = 0; d < s.D_v; ++d) {
          const double want = expected[size_t(d)];
          EXPECT_NEAR(out.at((b * s.H + h) * s.D_v + d), want,
                      bound + rounding_of(out.tensor().dtype) * std::fabs(want))
              << "sequence " << b << " head " << h << " feature " << d;
        }
      }
    EXPECT_TRUE(out.untouched() && workspace.untouched());
  }
};

// body(problem): one key and a full cache, edges of registers, blocks and chunks (64, 256), whole and part vectors,
// shared heads, values wider or narrower than keys, all keys and a window of them; slots and constants change from one
// to the next.
template <class Body>
void for_decode_problems(ScoreKind score, DType act, Body body) {
  struct Size {
    AttentionShape shape;
    int64_t length;
  };
  const Size sizes[] = {{{1, 1, 1, 1, 16, 16}, 1},       {{3, 9, 4, 2, 20, 20}, 1},     {{2, 70, 6, 2, 64, 64}, 65},
                        {{2, 300, 1, 1, 100, 100}, 300}, {{1, 600, 4, 1, 16, 16}, 513}, {{1, 260, 2, 2, 256, 256}, 257},
                        {{2, 70, 4, 2, 20, 40}, 65},     {{1, 300, 2, 1, 64, 16}, 290}};
  int turn = int(score);
  for (const Size& size : sizes) {
    const Slot slot = kSlots[turn % 3];
    SCOPED_TRACE(describe(size.shape, slot) + fmt::format(", {} {}", size.length, name_of(act)));
    DecodeCase problem(score, size.shape, slot, act, size.length);
    if (turn++ % 2) problem.problem.use_unusual_constants();
    {
      DecodeCase whole = problem;
      body(whole);
    }
    for (const int64_t window : {size.length / 2, size.length + 3}) {
      SCOPED_TRACE(fmt::format("window {}", window));
      DecodeCase windowed = problem;
      if (window > 0) windowed.see_last(window);
      body(windowed);
    }
  }
}

}  // namespace sluice
