// Attention forward, its row statistics and its probe, for every registered score function and every instruction set,
// against the plain reference; and what no formula says: extreme scores, NaN, threads. In f64 rounding leaves 1e-12;
// f32 and bf16 are held against f64 in attention_gradient_test.cc.
#include <algorithm>

#include "kernels/attention_reference.h"

namespace sluice {
namespace {

// Edges of the 64 x 64 tiles, of the registers (D of 16 and 64 are read in place, 20 is not) and of shared heads;
// values wider or narrower than keys.
const AttentionShape kShapes[] = {{1, 1, 1, 1, 16, 16},   {3, 1, 4, 2, 20, 20},    {3, 21, 4, 2, 16, 16},
                                  {1, 3, 1, 1, 256, 256}, {1, 65, 4, 2, 20, 20},   {1, 130, 1, 1, 64, 64},
                                  {1, 130, 4, 2, 16, 16}, {1, 65, 1, 1, 256, 256}, {1, 130, 4, 2, 16, 32},
                                  {3, 21, 4, 2, 20, 40},  {1, 65, 2, 1, 40, 16},   {1, 3, 1, 1, 16, 256}};
constexpr double kTight = 1e-12;

template <class Test>
void for_problems(Test test) {
  for_scores([&](ScoreKind score) {
    bool unusual = false;
    for (const AttentionShape& shape : kShapes)
      for (const Slot slot : kSlots) {
        SCOPED_TRACE(describe(shape, slot));
        AttentionCase problem(score, shape, slot, DType::kF64);
        problem.randomise();
        if ((unusual = !unusual)) problem.use_unusual_constants();
        with_and_without_masks(problem, test);
      }
  });
}

double largest_difference(const Values& x, const Values& y) {
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double difference = std::fabs(x[i] - y[i]);
    if (!(difference <= worst)) worst = difference;  // NaN stays
  }
  return worst;
}

TEST(Attention, ForwardIsThePlainFormula) {
  for_problems([](const AttentionCase& problem) {
    const Values expected = AttentionReference(problem).outputs();
    for (const IsaKernels* isa : available_isas()) {
      SCOPED_TRACE(isa->name);
      AttentionCase run = problem;
      run.forward(*isa);
      EXPECT_LE(largest_difference(values_of(run.out), expected), kTight);
      EXPECT_TRUE(run.untouched());
      EXPECT_TRUE(run.qkv == problem.qkv);
    }
  });
}

TEST(Attention, StatsAreTheRowsReferenceAndInverseNormaliser) {
  for_problems([](AttentionCase& problem) {
    const AttentionReference reference(problem);
    problem.forward(*available_isas().back());
    int64_t row = 0;
    reference.for_rows([&](int64_t b, int64_t h, int64_t i) {
      const ReferenceRow expected = reference.row(b, h, i);
      const double inverse = expected.inverse;
      EXPECT_NEAR(problem.stats.at(row), expected.reference, kTight) << "row " << row;
      EXPECT_NEAR(problem.stats.at(problem.stats.size() / 2 + row), inverse, kTight * std::fabs(inverse))
          << "row " << row;
      ++row;
    });
  });
}

TEST(Attention, ProbeReadsTheFirstKey) {
  for_problems([](const AttentionCase& problem) {
    const AttentionReference reference(problem);
    Values attention, gap;
    reference.for_rows([&](int64_t b, int64_t h, int64_t i) {
      const ReferenceRow row = reference.row(b, h, i);
      const std::vector<int64_t> keys = reference.seen(b, i);
      const size_t first = problem.slot != Slot::kNone;
      double others = 0, count = 0;
      for (size_t j = 1; j < keys.size(); ++j)
        if (keys[j] != i) others += row.scores[first + j], ++count;
      const bool seen = reference.first_key(b, i) == reference.document(b, i);  // not out of the row's window
      attention.push_back(seen ? row.weights[first] : 0);
      gap.push_back(!seen || count == 0 ? 0 : row.scores[first] - others / count);
    });
    for (const IsaKernels* isa : available_isas()) {
      SCOPED_TRACE(isa->name);
      AttentionCase run = problem;
      run.forward(*isa).probe(*isa);
      EXPECT_LE(largest_difference(values_of(run.sink_attention), attention), kTight);
      EXPECT_LE(largest_difference(values_of(run.sink_logit_gap), gap), kTight);
      EXPECT_TRUE(run.untouched());
    }
  });
}

// Positions [first, end) of sequence b as a problem of its own.
AttentionCase alone(const AttentionCase& packed, int64_t b, int64_t first, int64_t end) {
  AttentionShape shape = packed.spec.shape;
  shape.B = 1, shape.T = end - first;
  AttentionCase out(packed.spec.score, shape, packed.slot, packed.qkv.tensor().dtype);
  out.spec.constants = packed.spec.constants;
  out.key_bias = packed.key_bias, out.value_bias = packed.value_bias, out.learned = packed.learned;
  const int64_t start = b * packed.spec.shape.T + first;
  for (auto [to, from] : {std::pair{&out.qkv, &packed.qkv}, {&out.d_out, &packed.d_out}})
    for (int64_t i = 0; i < to->size(); ++i) to->set(i, from->at(start * to->tensor().cols() + i));
  return out;
}

// Forward and backward: a document is attended to as if it were alone, and the parameters get the documents' sum. Sums
// over keys and queries are cut into other tiles there, nothing else differs.
TEST(Attention, PackedDocumentsAreDocumentsAlone) {
  for_scores([](ScoreKind score) {
    for (const Slot slot : kSlots) {
      const AttentionShape s = {2, 200, 4, 2, 20, 24};
      SCOPED_TRACE(describe(s, slot));
      AttentionCase packed(score, s, slot, DType::kF64);
      packed.randomise().pack_documents();
      packed.use_unusual_constants();
      const IsaKernels& isa = *available_isas().back();
      packed.forward(isa).backward(isa);
      std::vector<Values> sums;
      for (const AttentionPart& part : packed.parts()) sums.emplace_back(gradient_of(part).size());
      for (int64_t b = 0; b < s.B; ++b)
        for (int64_t first = 0, end; first < s.T; first = end) {
          for (end = first + 1; end < s.T && packed.first_key_of(b, end) == first;) ++end;
          SCOPED_TRACE(fmt::format("sequence {}, positions {} to {}", b, first, end));
          AttentionCase document = alone(packed, b, first, end);
          document.forward(isa).backward(isa);
          const auto same_rows = [&](const TestBuffer& whole, const TestBuffer& part) {
            const Values all = values_of(whole);
            const auto from = all.begin() + (b * s.T + first) * whole.tensor().cols();
            EXPECT_LE(largest_difference({from, from + part.size()}, values_of(part)), kTight);
          };
          same_rows(packed.out, document.out);
          same_rows(packed.d_qkv, document.d_qkv);
          const auto parts = document.parts();
          for (size_t part = 3; part < parts.size(); ++part) {
            const Values share = gradient_of(parts[part]);
            for (size_t i = 0; i < share.size(); ++i) sums[part][i] += share[i];
          }
        }
      for (size_t part = 3; part < sums.size(); ++part)
        EXPECT_LE(largest_difference(gradient_of(packed.parts()[part]), sums[part]), kTight)
            << packed.parts()[part].name;
    }
  });
}

TEST(Attention, RefusesFirstKeysThatAreNotDocuments) {
  const auto backend = make_cpu_backend();
  const auto refused = [&](int64_t position, double value) {
    AttentionCase run(ScoreKind::kSoftmax, {2, 6, 1, 1, 16, 16}, Slot::kNone, DType::kF32);
    run.randomise().pack_documents();
    run.first_key.set(position, value);
    EXPECT_THROW(backend->run(run.forward_args()), std::logic_error) << position << ": " << value;
    EXPECT_THROW(backend->run(run.backward_args()), std::logic_error) << position << ": " << value;
  };
  refused(3, 4);   // beyond the row itself
  refused(6, -1);  // before the sequence
  refused(9, 1);   // back to an earlier document
}

TEST(Attention, TheSliceDoesNotMatter) {
  for_kernels([](const IsaKernels& isa, DType act) {
    const AttentionShape s = {2, 70, 4, 2, 20, 24};
    AttentionCase sliced(ScoreKind::kSoftmax, s, Slot::kNone, act);
    sliced.randomise().forward(isa);
    const int64_t N = s.B * s.T;
    const HeadSizes heads = s.heads();
    TestBuffer q(act, N, heads.query_columns()), k(act, N, heads.key_columns()), v(act, N, heads.value_columns()),
        out(act, N, heads.result_columns());
    isa.run(Copy{q, sliced.forward_args().q}), isa.run(Copy{k, sliced.forward_args().k}),
        isa.run(Copy{v, sliced.forward_args().v});
    AttentionForward packed = sliced.forward_args();
    packed.q = q, packed.k = k, packed.v = v, packed.out = out;
    isa.run(packed);
    EXPECT_EQ(values_of(out), values_of(sliced.out));
  });
}

TEST(Attention, ThreadsDoNotChangeABit) {
  for_scores([](ScoreKind score) {
    for (const DType act : kActivationTypes)
      expect_same_with_any_threads([&] {
        const IsaKernels& isa = *available_isas().back();
        AttentionCase run(score, {2, 130, 4, 2, 20, 24}, Slot::kKeyValue, act);
        if (act == DType::kF32) run.pack_documents();
        run.randomise().forward(isa).backward(isa).probe(isa);
        return std::vector<TestBuffer>{run.out,          run.stats,          run.d_qkv,         run.d_key_bias,
                                       run.d_value_bias, run.sink_attention, run.sink_logit_gap};
      });
  });
}

// ---- extreme scores ----------------------------------------------------------------------------------------------

// Rows in turn: every score near `size`, every score near -size, and both by turns.
AttentionCase extreme_case(ScoreKind score, Slot slot, DType act, double size) {
  const AttentionShape s = {1, 70, 2, 1, 16, 16};
  AttentionCase out(score, s, slot, act);
  out.randomise(0.2);
  const int64_t cols = s.heads().projected_columns(), D = s.D_qk;
  for (int64_t i = 0; i < s.T; ++i) {
    for (int64_t h = 0; h < s.H; ++h) {
      out.qkv.set(i * cols + h * D, i % 3 == 0 ? size : i % 3 == 1 ? -size : 0);
      out.qkv.set(i * cols + h * D + 1, i % 3 == 2 ? size : 0);
    }
    out.qkv.set(i * cols + s.H * D, 4);  // the scale is 1/4
    out.qkv.set(i * cols + s.H * D + 1, i % 2 ? 4 : -4);
  }
  return out;
}

// A score's rounding error is at most (D + 2) u times the sum of its products' sizes; an exponential multiplies its
// weight by e to that, its normaliser too, and the sum over the row's keys adds one u a key. Every function here
// changes its weights by no more than that share of their sum (clipped_softmax: of its stretch, zeta - gamma).
void check_extreme_rows(const AttentionCase& run) {
  const AttentionReference reference(run);
  const AttentionShape& s = run.spec.shape;
  const double u = rounding_of(run.qkv.tensor().dtype);
  double largest_value = 0;
  for (const double v : values_of(run.qkv, (s.H + s.KV) * s.D_qk, s.KV * s.D_v))
    largest_value = std::max(largest_value, std::fabs(v));
  for (const double v : values_of(run.value_bias)) largest_value = std::max(largest_value, std::fabs(v));
  reference.for_rows([&](int64_t b, int64_t h, int64_t i) {
    const ReferenceRow row = reference.row(b, h, i);
    const Values expected = reference.output(b, h, i, row);
    double mass = 0;
    for (const double p : row.weights) mass += p;
    mass = std::max(mass, reference.stretch());
    const double size = *std::max_element(row.sizes.begin(), row.sizes.end());
    const double bound = (2 * double(s.D_qk + 2) * size + double(i) + 6) * u * mass * largest_value;
    for (int64_t d = 0; d < s.D_v; ++d)
      EXPECT_NEAR(run.out.at((b * s.T + i) * s.H * s.D_v + h * s.D_v + d), expected[size_t(d)], bound) << "row " << i;
  });
}

bool all_finite(const TestBuffer& x) {
  const Values values = values_of(x);
  return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

TEST(Attention, ScoresOf80) {
  for_scores([](ScoreKind score) {
    for (const Slot slot : kSlots)
      for (const IsaKernels* isa : available_isas())
        for (const DType act : {DType::kF32, DType::kF64}) {
          SCOPED_TRACE(fmt::format("{} {} slot {}", isa->name, name_of(act), int(slot)));
          AttentionCase run = extreme_case(score, slot, act, 80);
          if (slot != Slot::kNone) run.use_unusual_constants();
          check_extreme_rows(run.forward(*isa));
        }
  });
}

TEST(Attention, HugeScoresStayFinite) {
  for_scores([](ScoreKind score) {
    for_kernels([&](const IsaKernels& isa, DType act) {
      for (const double size : {80.0, 1000.0}) {
        AttentionCase run = extreme_case(score, Slot::kKeyValue, act, size);
        run.forward(isa).backward(isa).probe(isa);
        for (const TestBuffer* x :
             {&run.out, &run.stats, &run.d_qkv, &run.d_key_bias, &run.d_value_bias, &run.sink_attention})
          EXPECT_TRUE(all_finite(*x)) << "scores of " << size;
        for (const TestBuffer& x : run.d_learned) EXPECT_TRUE(all_finite(x)) << "scores of " << size;
      }
    });
  });
}

// ---- NaN ---------------------------------------------------------------------------------------------------------

constexpr AttentionShape kNaNShape = {1, 70, 1, 1, 20, 20};

bool has_nan(const Values& x) {
  return std::any_of(x.begin(), x.end(), [](double value) { return std::isnan(value); });
}
bool output_row_has_nan(const AttentionCase& run, int64_t row) {
  const Values out = values_of(run.out);
  return has_nan({out.begin() + row * kNaNShape.D_v, out.begin() + (row + 1) * kNaNShape.D_v});
}

// A gradient may be 0 where the score function is flat (relu), but it may not be finite everywhere.
TEST(Attention, NaNComesThrough) {
  constexpr int64_t kAt = 3, D = kNaNShape.D_v, T = kNaNShape.T;
  for_scores([&](ScoreKind score) {
    for_kernels([&](const IsaKernels& isa, DType act) {
      AttentionCase clean(score, kNaNShape, Slot::kNone, act);
      clean.randomise();
      for (const int64_t col : {7 + 0 * D, 7 + 1 * D, 7 + 2 * D}) {  // of q, k, v
        AttentionCase run = clean;
        run.qkv.set(kAt * 3 * D + col, std::nan(""));
        run.forward(isa).backward(isa);
        for (int64_t row = 0; row < T; ++row) {
          if (row == kAt || (row > kAt && col >= D)) {
            EXPECT_TRUE(output_row_has_nan(run, row)) << "column " << col << " row " << row;
          } else if (col < D) {
            EXPECT_FALSE(output_row_has_nan(run, row)) << "row " << row;
          }
        }
        EXPECT_TRUE(has_nan(values_of(run.d_qkv))) << "column " << col;
      }
      AttentionCase run = clean;
      run.d_out.set(kAt * D + 7, std::nan(""));
      run.forward(isa).backward(isa);
      EXPECT_TRUE(has_nan(values_of(run.d_qkv)));
    });
  });
}

}  // namespace
}  // namespace sluice
