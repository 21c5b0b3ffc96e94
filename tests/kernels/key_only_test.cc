// Running averages by the keys' own scores: examples for the tests that walk the list of ops, the forward pass against
// plain sums in double and against softmax attention, the backward pass against differences, rows that go on.
#include "kernels/ops/cores/key_only.h"

#include <gtest/gtest.h>

#include "kernels/formulas/key_only.h"
#include "kernels/op_example.h"

namespace sluice {
namespace {

struct KeyOnlyExample : ExampleBase {
  static constexpr int64_t kHeads = 4, kKv = 2, kD = 9, kDv = 11;
  using ExampleBase::ExampleBase;
  const size_t q = given(kHeads * kD), k = given(kKv * kD), v = given(kKv * kDv);
  AttentionShape shape() const { return {N / T, T, kHeads, kKv, kD, kDv}; }
  KeyOnlyForward inputs(const Tensors& t) const {
    return {.shape = shape(), .scale = 0.4, .q = t[q], .k = t[k], .v = t[v], .out = {}, .betas = {}};
  }
};

struct ForwardExample : KeyOnlyExample {
  using KeyOnlyExample::KeyOnlyExample;
  const size_t out = written(kHeads * kDv), betas = written_flat(acc, {N / T, kHeads, T}),
               state = written_flat(acc, {N / T, kHeads*(kDv + 2)});
  KeyOnlyForward op(const Tensors& t) const {
    KeyOnlyForward op = inputs(t);
    op.out = t[out], op.betas = t[betas], op.state = t[state];
    return op;
  }
};

struct BackwardExample : KeyOnlyExample {
  const size_t out = given(kHeads * kDv), betas = given_flat(acc, {N / T, kHeads, T}), d_out = given(kHeads * kDv),
               d_q = written(kHeads * kD), d_k = written(kKv * kD), d_v = written(kKv * kDv),
               scratch = given_flat(acc, {2 * N, kHeads*kDv});
  BackwardExample(DType act, int64_t gap, int64_t N) : KeyOnlyExample(act, gap, N) {
    cpu_backend().run(forward(here()));
  }
  KeyOnlyForward forward(const Tensors& t) const {
    KeyOnlyForward op = inputs(t);
    op.out = t[out], op.betas = t[betas];
    return op;
  }
  KeyOnlyBackward op(const Tensors& t) const { return {forward(t), t[d_out], t[d_q], t[d_k], t[d_v]}; }
};

struct Case {
  AttentionShape shape;
  bool documents;
};
const Case kCases[] = {{{1, 1, 1, 1, 1, 1}, false},   {{2, 9, 4, 2, 7, 5}, false},     {{2, 9, 4, 2, 7, 5}, true},
                       {{1, 70, 2, 1, 64, 33}, true}, {{1, 3, 1, 1, 256, 256}, false}, {{3, 17, 3, 3, 16, 64}, false}};

// body(isa, type, case)
template <class Body>
void for_cases(Body body) {
  for (const IsaKernels* isa : available_isas())
    for (const DType type : kActivationTypes)
      for (const Case& one : kCases) {
        const AttentionShape& s = one.shape;
        SCOPED_TRACE(fmt::format("{} {} B {} T {} H {} KV {} D {} and {}, documents {}", isa->name, name_of(type), s.B,
                                 s.T, s.H, s.KV, s.D_qk, s.D_v, one.documents));
        body(*isa, type, one);
      }
}

// All tensors of one case; documents begin at every fourth position but one.
struct Buffers {
  AttentionShape s;
  int64_t N = s.B * s.T;
  TestBuffer q, k, v, out, betas, first, d, d_q, d_k, d_v;
  std::vector<float> workspace;
  bool documents;

  Buffers(DType type, const Case& one)
      : s(one.shape),
        q(type, N, s.H * s.D_qk, s.H * s.D_qk + 3),
        k(type, N, s.KV * s.D_qk),
        v(type, N, s.KV * s.D_v, s.KV * s.D_v + 5),
        out(type, N, s.H * s.D_v, s.H * s.D_v + 1),
        betas(accumulator_of(type), Shape{s.B, s.H, s.T}),
        first(DType::kI32, Shape{N}),
        d(type, N, s.H * s.D_v),
        d_q(type, N, s.H * s.D_qk),
        d_k(type, N, s.KV * s.D_qk, s.KV * s.D_qk + 2),
        d_v(type, N, s.KV * s.D_v),
        workspace(size_t(cpu_backend().workspace<KeyOnlyBackward>({one.shape, type}))),
        documents(one.documents) {
    q.randomise(1), k.randomise(2), v.randomise(3), d.randomise(4);
    for (int64_t n = 0; n < N; ++n) first.set(n, documents ? double(n % s.T / 4 * 4) : 0.0);
  }
  KeyOnlyForward forward() const {
    return {.shape = s,
            .scale = 0.7,
            .q = q,
            .k = k,
            .v = v,
            .first_key = documents ? first.tensor() : Tensor{},
            .out = out,
            .betas = betas};
  }
  KeyOnlyBackward backward() {
    return {forward(), d, d_q, d_k, d_v, Tensor(workspace.data(), DType::kF32, {int64_t(workspace.size())})};
  }
  double score(int64_t n, int64_t h) const {
    double sum = 0;
    for (int64_t i = 0; i < s.D_qk; ++i)
      sum += Silu::forward<double>(q.at(n, h * s.D_qk + i)) * k.at(n, h / (s.H / s.KV) * s.D_qk + i);
    return 0.7 * sum;
  }
};

// Bounds: a score of D products is off by D roundings of their magnitudes, at most 0.7 D here, and so is the logarithm
// of a weight; then T steps of the average, each a rounding of values of at most 1.
TEST(KeyOnlyOp, AveragesByWhatItsFormulaSays) {
  for_cases([](const IsaKernels& isa, DType type, const Case& one) {
    Buffers b(type, one);
    isa.run(b.forward());
    const AttentionShape& s = b.s;
    const double roundings = 4 + double(s.T) + 2 * 0.7 * double(s.D_qk);
    for (int64_t n = 0; n < b.N; ++n)
      for (int64_t h = 0; h < s.H; ++h) {
        const int64_t from = n - n % s.T + int64_t(b.first.at(n));
        double mass = 0;
        std::vector<double> sums(size_t(s.D_v));
        for (int64_t m = from; m <= n; ++m) {
          const double weight = std::exp(b.score(m, h));
          mass += weight;
          for (int64_t i = 0; i < s.D_v; ++i) sums[size_t(i)] += weight * b.v.at(m, h / (s.H / s.KV) * s.D_v + i);
        }
        for (int64_t i = 0; i < s.D_v; ++i)
          ASSERT_TRUE(near_value(b.out.at(n, h * s.D_v + i), sums[size_t(i)] / mass, type, 1, roundings))
              << n << " " << i;
      }
    EXPECT_TRUE(b.out.untouched() && b.betas.untouched());
  });
}

TEST(KeyOnlyOp, IsSoftmaxAttentionWhereAllQueriesAreEqual) {
  const IsaKernels& isa = *available_isas().back();
  Buffers b(DType::kF64, kCases[2]);
  for (int64_t i = 0; i < b.q.size(); ++i) b.q.set(i, b.q.at(0, i % (b.s.H * b.s.D_qk)));
  isa.run(b.forward());
  TestBuffer q = b.q, out = b.out, stats(DType::kF64, Shape{2, b.s.B, b.s.H, b.s.T});
  for (int64_t i = 0; i < q.size(); ++i) q.set(i, Silu::forward<double>(b.q.at(i)));
  AttentionForward softmax{};
  softmax.spec.shape = b.s, softmax.spec.scale = 0.7;
  softmax.q = q, softmax.k = b.k, softmax.v = b.v, softmax.first_key = b.first, softmax.out = out,
  softmax.stats = stats;
  isa.run(softmax);
  for (int64_t i = 0; i < out.size(); ++i) EXPECT_NEAR(b.out.at(i), out.at(i), 1e-13);
}

TEST(KeyOnlyOp, GradientsAreDifferencesOfTheResult) {
  const IsaKernels& isa = *available_isas().back();
  for (const Case& one : {kCases[1], kCases[2]}) {
    Buffers b(DType::kF64, one);
    isa.run(b.forward());
    isa.run(b.backward());
    const auto loss = [&] {
      isa.run(b.forward());
      double sum = 0;
      for (int64_t i = 0; i < b.out.size(); ++i) sum += b.out.at(i) * b.d.at(i);
      return sum;
    };
    for (int64_t i = 0; i < b.q.size(); ++i) EXPECT_NEAR(b.d_q.at(i), slope(b.q, i, loss), 1e-7) << "q " << i;
    for (int64_t i = 0; i < b.k.size(); ++i) EXPECT_NEAR(b.d_k.at(i), slope(b.k, i, loss), 1e-7) << "k " << i;
    for (int64_t i = 0; i < b.v.size(); ++i) EXPECT_NEAR(b.d_v.at(i), slope(b.v, i, loss), 1e-7) << "v " << i;
  }
}

// Storage rounds inputs and results, so each type is held against f64 on its own inputs. Gradients of values are sums
// over the rows after them of slopes of at most 1, those of scores of as many more.
TEST(KeyOnlyOp, GradientsOfEveryTypeAreThoseOfF64) {
  for_cases([](const IsaKernels& isa, DType type, const Case& one) {
    Buffers b(type, one), wide(DType::kF64, one);
    const std::pair<const TestBuffer&, TestBuffer&> inputs[] = {
        {b.q, wide.q}, {b.k, wide.k}, {b.v, wide.v}, {b.d, wide.d}};
    for (const auto& [from, to] : inputs)
      for (int64_t i = 0; i < from.size(); ++i) to.set(i, from.at(i));
    isa.run(b.forward()), isa.run(b.backward());
    isa.run(wide.forward()), isa.run(wide.backward());
    const double T = double(b.s.T), D = double(b.s.D_qk + b.s.D_v), group = double(b.s.H / b.s.KV);
    const auto expect = [&](const TestBuffer& found, const TestBuffer& wanted, double size) {
      // What is read of the results has been stored: one rounding of the storage type for each row that follows.
      const double stored = rounding_of(type) / rounding_of(accumulator_of(type));
      for (int64_t i = 0; i < found.size(); ++i)
        ASSERT_TRUE(near_value(found.at(i), wanted.at(i), type, size, 4 + T + 2 * D + stored)) << i;
      EXPECT_TRUE(found.untouched());
    };
    expect(b.d_v, wide.d_v, T * group);
    expect(b.d_q, wide.d_q, T * double(b.s.D_v));
    expect(b.d_k, wide.d_k, T * double(b.s.D_v) * group);
  });
}

TEST(KeyOnlyOp, GoesOnFromItsState) {
  for (const IsaKernels* isa : available_isas()) {
    Buffers whole(DType::kF32, kCases[1]);
    isa->run(whole.forward());
    const AttentionShape& s = whole.s;
    TestBuffer state(DType::kF32, s.B, s.H * (s.D_v + 2)), out = whole.out;
    for (int64_t t = 0; t < s.T; ++t) {
      KeyOnlyForward step = whole.forward();
      step.shape.T = 1;
      const auto rows = [&](const Tensor& x) {
        Tensor of_step = x.row_range(t, 1);
        of_step.shape = {s.B, x.cols()};
        of_step.stride = x.stride * s.T;
        return of_step;
      };
      step.q = rows(step.q), step.k = rows(step.k), step.v = rows(step.v), step.out = rows(out);
      step.betas = Tensor(step.betas.data, DType::kF32, {s.B, s.H, 1});
      step.state = state, step.resume = t > 0;
      isa->run(step);
    }
    for (int64_t i = 0; i < out.size(); ++i) EXPECT_EQ(out.at(i), whole.out.at(i)) << i;
  }
}

// What a document holds, infinities too, never reaches the next.
TEST(KeyOnlyOp, DocumentsAreKeptApart) {
  const IsaKernels& isa = *available_isas().back();
  Buffers b(DType::kF32, kCases[2]);
  for (int64_t i = 0; i < b.s.KV * b.s.D_v; ++i) b.v.set(2 * b.s.KV * b.s.D_v + i, INFINITY);
  isa.run(b.forward());
  isa.run(b.backward());
  for (int64_t n = 4; n < b.N; ++n)
    for (int64_t i = 0; i < b.s.H * b.s.D_v; ++i) ASSERT_TRUE(std::isfinite(b.out.at(n, i))) << n;
  for (int64_t n = 4; n < b.N; ++n)
    for (int64_t i = 0; i < b.s.KV * b.s.D_v; ++i) ASSERT_TRUE(std::isfinite(b.d_v.at(n, i))) << n;
}

}  // namespace

SLUICE_OP_EXAMPLE(KeyOnlyForward, ForwardExample)
SLUICE_OP_EXAMPLE(KeyOnlyBackward, BackwardExample)

}  // namespace sluice
