// Flow-Attention's share beside linear attention: examples for the tests that walk the list of ops, results against
// sums over whole rows in double, gradients against differences, every type against f64, rows that go on, documents.
#include "kernels/ops/cores/flow.h"

#include <gtest/gtest.h>

#include "kernels/formulas/flow.h"
#include "kernels/op_example.h"

namespace sluice {
namespace {

struct FlowExample : ExampleBase {
  static constexpr int64_t kHeads = 4, kKv = 2, kD = 9, kDv = 11;
  using ExampleBase::ExampleBase;
  const size_t q = given(kHeads * kD), k = given(kKv * kD), v = given(kKv * kDv);
  AttentionShape shape() const { return {N / T, T, kHeads, kKv, kD, kDv}; }
  FlowForward inputs(const Tensors& t) const {
    FlowForward op;
    op.shape = shape(), op.q = t[q], op.k = t[k], op.v = t[v];
    return op;
  }
};

struct ForwardExample : FlowExample {
  using FlowExample::FlowExample;
  const size_t queries = written(kHeads * kD), keys = written(kHeads * kD), values = written(kHeads * kDv),
               logits = written(kHeads), stats = written_flat(acc, {4, N / T, kHeads, T}),
               state = written_flat(acc, {N / T * kHeads, 4 * kD + 2});
  FlowForward op(const Tensors& t) const {
    FlowForward op = inputs(t);
    op.queries = t[queries], op.keys = t[keys], op.values = t[values], op.logits = t[logits], op.stats = t[stats];
    op.state = t[state];
    return op;
  }
};

struct BackwardExample : FlowExample {
  const size_t queries = given(kHeads * kD), keys = given(kHeads * kD), values = given(kHeads * kDv),
               logits = given(kHeads), stats = given_flat(acc, {4, N / T, kHeads, T}), d_queries = given(kHeads * kD),
               d_keys = given(kHeads * kD), d_values = given(kHeads * kDv), d_logits = given(kHeads),
               d_q = written(kHeads * kD), d_k = written(kKv * kD), d_v = written(kKv * kDv);
  BackwardExample(DType act, int64_t gap, int64_t N) : FlowExample(act, gap, N) { cpu_backend().run(forward(here())); }
  FlowForward forward(const Tensors& t) const {
    FlowForward op = inputs(t);
    op.queries = t[queries], op.keys = t[keys], op.values = t[values], op.logits = t[logits], op.stats = t[stats];
    return op;
  }
  FlowBackward op(const Tensors& t) const {
    return {forward(t), t[d_queries], t[d_keys], t[d_values], t[d_logits], t[d_q], t[d_k], t[d_v]};
  }
};

struct Case {
  AttentionShape shape;
  bool documents;
};
const Case kCases[] = {{{1, 1, 1, 1, 1, 1}, false},   {{2, 9, 4, 2, 7, 5}, false},     {{2, 9, 4, 2, 7, 5}, true},
                       {{1, 70, 2, 1, 64, 33}, true}, {{1, 3, 1, 1, 256, 256}, false}, {{3, 17, 3, 3, 16, 64}, false}};

// All tensors of one case; documents begin at every fourth position but one.
struct Buffers {
  AttentionShape s;
  int64_t N = s.B * s.T, group = s.H / s.KV;
  TestBuffer q, k, v, first, queries, keys, values, logits, stats, d_queries, d_keys, d_values, d_logits, d_q, d_k, d_v;
  std::vector<float> workspace;
  bool documents;

  Buffers(DType type, const Case& one)
      : s(one.shape),
        q(type, N, s.H * s.D_qk, s.H * s.D_qk + 3),
        k(type, N, s.KV * s.D_qk),
        v(type, N, s.KV * s.D_v, s.KV * s.D_v + 5),
        first(DType::kI32, Shape{N}),
        queries(type, N, s.H * s.D_qk),
        keys(type, N, s.H * s.D_qk, s.H * s.D_qk + 1),
        values(type, N, s.H * s.D_v),
        logits(type, N, s.H, s.H + 2),
        stats(accumulator_of(type), Shape{4, s.B, s.H, s.T}),
        d_queries(type, N, s.H * s.D_qk),
        d_keys(type, N, s.H * s.D_qk),
        d_values(type, N, s.H * s.D_v),
        d_logits(type, N, s.H),
        d_q(type, N, s.H * s.D_qk),
        d_k(type, N, s.KV * s.D_qk, s.KV * s.D_qk + 2),
        d_v(type, N, s.KV * s.D_v),
        workspace(size_t(cpu_backend().workspace<FlowBackward>({one.shape, type}))),
        documents(one.documents) {
    q.randomise(1), k.randomise(2), v.randomise(3);
    d_queries.randomise(4), d_keys.randomise(5), d_values.randomise(6), d_logits.randomise(7);
    for (int64_t n = 0; n < N; ++n) first.set(n, documents ? double(n % s.T / 4 * 4) : 0.0);
  }
  FlowForward forward() const {
    FlowForward op;
    op.shape = s, op.q = q, op.k = k, op.v = v;
    if (documents) op.first_key = first;
    op.queries = queries, op.keys = keys, op.values = values, op.logits = logits, op.stats = stats;
    return op;
  }
  FlowBackward backward() {
    return {forward(), d_queries, d_keys,
            d_values,  d_logits,  d_q,
            d_k,       d_v,       Tensor(workspace.data(), DType::kF32, {int64_t(workspace.size())})};
  }
  double a(int64_t n, int64_t h, int64_t i) const { return 1 / (1 + std::exp(-q.at(n, h * s.D_qk + i))); }
  double b(int64_t n, int64_t h, int64_t i) const { return 1 / (1 + std::exp(-k.at(n, h / group * s.D_qk + i))); }
};

// Each row's numbers from whole sums over the rows before it.
struct Reference {
  const Buffers& of;
  int64_t h;
  double e = 1e-6;

  int64_t from(int64_t n) const { return n - n % of.s.T + int64_t(of.first.at(n)); }
  double count(int64_t n) const { return double(n - from(n) + 1); }
  template <class Left, class Right>
  double flow(int64_t n, Left left, Right right) const {
    double sum = 0;
    for (int64_t i = 0; i < of.s.D_qk; ++i) {
      double total = e;
      for (int64_t m = from(n); m <= n; ++m) total += right(m, i);
      sum += (left(n, i) + e) * total;
    }
    return sum;
  }
  double a(int64_t n, int64_t i) const { return of.a(n, h, i); }
  double b(int64_t n, int64_t i) const { return of.b(n, h, i); }
  double incoming(int64_t n) const {
    return count(n) / flow(
                          n, [&](auto m, auto i) { return a(m, i); }, [&](auto m, auto i) { return b(m, i); });
  }
  double outgoing(int64_t n) const {
    return count(n) / flow(
                          n, [&](auto m, auto i) { return b(m, i); }, [&](auto m, auto i) { return a(m, i); });
  }
};

// What the first row and the others of each head are, at f64: no more than the rounding of sums over T rows of D
// features, a few deep.
TEST(FlowOp, IsWhatItsFormulaSays) {
  for (const IsaKernels* isa : available_isas())
    for (const Case& one : kCases) {
      Buffers b(DType::kF64, one);
      isa->run(b.forward());
      for (int64_t h = 0; h < b.s.H; ++h) {
        const Reference want{b, h};
        std::vector<double> I, O, x;
        for (int64_t n = 0; n < b.N; ++n) I.push_back(want.incoming(n)), O.push_back(want.outgoing(n));
        for (int64_t n = 0; n < b.N; ++n) {
          const double count = want.count(n);
          const double logit = want.flow(
                                   n, [&](auto m, auto i) { return want.a(m, i); },
                                   [&](auto m, auto i) { return want.b(m, i) * O[size_t(m)]; }) /
                               count;
          const double w = want.flow(
                               n, [&](auto m, auto i) { return want.b(m, i); },
                               [&](auto m, auto i) { return want.a(m, i) * I[size_t(m)]; }) /
                           count;
          x.push_back(std::exp(std::clamp(w, -5.0, 5.0)));
          double mass = 0;
          for (int64_t m = want.from(n); m <= n; ++m) mass += x[size_t(m)];
          ASSERT_NEAR(b.logits.at(n, h), logit, 1e-12);
          for (int64_t i = 0; i < b.s.D_qk; ++i) {
            ASSERT_NEAR(b.queries.at(n, h * b.s.D_qk + i), want.a(n, i) * I[size_t(n)] / count, 1e-12);
            ASSERT_NEAR(b.keys.at(n, h * b.s.D_qk + i), want.b(n, i), 1e-14);
          }
          for (int64_t i = 0; i < b.s.D_v; ++i)
            ASSERT_NEAR(b.values.at(n, h * b.s.D_v + i),
                        count * x[size_t(n)] / mass * b.v.at(n, h / b.group * b.s.D_v + i), 1e-12);
        }
      }
      EXPECT_TRUE(b.queries.untouched() && b.keys.untouched() && b.values.untouched() && b.logits.untouched());
    }
}

double weighted(const TestBuffer& x, const TestBuffer& d) {
  double sum = 0;
  for (int64_t i = 0; i < x.size(); ++i) sum += x.at(i) * d.at(i);
  return sum;
}

TEST(FlowOp, GradientsAreDifferencesOfTheResults) {
  for (const IsaKernels* isa : available_isas())
    for (const Case& one : {kCases[1], kCases[2]}) {
      Buffers b(DType::kF64, one);
      isa->run(b.forward());
      isa->run(b.backward());
      const auto loss = [&] {
        isa->run(b.forward());
        return weighted(b.queries, b.d_queries) + weighted(b.keys, b.d_keys) + weighted(b.values, b.d_values) +
               weighted(b.logits, b.d_logits);
      };
      for (int64_t i = 0; i < b.q.size(); ++i) EXPECT_NEAR(b.d_q.at(i), slope(b.q, i, loss), 1e-7) << "q " << i;
      for (int64_t i = 0; i < b.k.size(); ++i) EXPECT_NEAR(b.d_k.at(i), slope(b.k, i, loss), 1e-7) << "k " << i;
      for (int64_t i = 0; i < b.v.size(); ++i) EXPECT_NEAR(b.d_v.at(i), slope(b.v, i, loss), 1e-7) << "v " << i;
    }
}

// Where what flows out is beyond the bound it is clamped, and its slope is 0: one feature makes w large, as n / b does.
TEST(FlowOp, HasNoSlopeBeyondTheBound) {
  EXPECT_EQ(flow_competitor(7.0), std::exp(5.0));
  EXPECT_EQ(flow_competitor(-7.0), std::exp(-5.0));
  EXPECT_EQ(flow_competitor_gradient(7.0, std::exp(5.0), 1.0), 0);
  EXPECT_EQ(flow_competitor_gradient(4.0, std::exp(4.0), 2.0), 2 * std::exp(4.0));
  EXPECT_TRUE(std::isnan(flow_competitor(double(NAN))));
}

// Storage rounds inputs, and results that are inputs of nothing here, so each type is held against f64 on its own
// inputs. All flows are sums of positive numbers, so relative errors stay those of T + D roundings; gradients are sums
// of signed ones, no term of which is above T times the largest slope given.
TEST(FlowOp, EveryTypeIsNearF64) {
  for (const IsaKernels* isa : available_isas())
    for (const DType type : {DType::kF32, DType::kBF16})
      for (const Case& one : kCases) {
        SCOPED_TRACE(fmt::format("{} {} T {} D {}", isa->name, name_of(type), one.shape.T, one.shape.D_qk));
        Buffers b(type, one), wide(DType::kF64, one);
        const std::pair<const TestBuffer&, TestBuffer&> inputs[] = {{b.q, wide.q},
                                                                    {b.k, wide.k},
                                                                    {b.v, wide.v},
                                                                    {b.d_queries, wide.d_queries},
                                                                    {b.d_keys, wide.d_keys},
                                                                    {b.d_values, wide.d_values},
                                                                    {b.d_logits, wide.d_logits}};
        for (const auto& [from, to] : inputs)
          for (int64_t i = 0; i < from.size(); ++i) to.set(i, from.at(i));
        isa->run(b.forward()), isa->run(b.backward());
        isa->run(wide.forward()), isa->run(wide.backward());
        const double T = double(b.s.T), D = double(b.s.D_qk + b.s.D_v), group = double(b.group);
        const auto expect = [&](const TestBuffer& found, const TestBuffer& wanted, double size) {
          double largest = size;
          for (int64_t i = 0; i < found.size(); ++i) largest = std::max(largest, std::fabs(wanted.at(i)));
          for (int64_t i = 0; i < found.size(); ++i)
            ASSERT_TRUE(near_value(found.at(i), wanted.at(i), type, largest, 8 + 4 * T + 4 * D)) << i;
          EXPECT_TRUE(found.untouched());
        };
        expect(b.queries, wide.queries, 0), expect(b.keys, wide.keys, 0), expect(b.values, wide.values, 0);
        expect(b.logits, wide.logits, 0);
        expect(b.d_v, wide.d_v, group), expect(b.d_q, wide.d_q, T), expect(b.d_k, wide.d_k, T * group);
      }
}

TEST(FlowOp, GoesOnFromItsState) {
  for (const IsaKernels* isa : available_isas()) {
    Buffers whole(DType::kF32, {{1, 9, 4, 2, 7, 5}, false});
    isa->run(whole.forward());
    const AttentionShape& s = whole.s;
    Buffers pieces = whole;
    TestBuffer state(DType::kF32, s.H, 4 * s.D_qk + 2);
    for (int64_t t = 0; t < s.T; ++t) {
      FlowForward step = pieces.forward();
      step.shape.T = 1;
      for (Tensor* x : {&step.q, &step.k, &step.v, &step.queries, &step.keys, &step.values, &step.logits})
        *x = x->row_range(t, 1);
      step.stats = Tensor(step.stats.data, DType::kF32, {4, 1, s.H, 1});
      step.state = state, step.resume = t > 0;
      isa->run(step);
    }
    const std::pair<const TestBuffer&, const TestBuffer&> results[] = {{pieces.queries, whole.queries},
                                                                       {pieces.keys, whole.keys},
                                                                       {pieces.values, whole.values},
                                                                       {pieces.logits, whole.logits}};
    for (const auto& [found, wanted] : results)
      for (int64_t i = 0; i < found.size(); ++i) EXPECT_EQ(found.at(i), wanted.at(i)) << i;
  }
}

}  // namespace

SLUICE_OP_EXAMPLE(FlowForward, ForwardExample)
SLUICE_OP_EXAMPLE(FlowBackward, BackwardExample)

}  // namespace sluice
