// Linear attention with decay: examples for the tests that walk the list of ops; results and gradients against the
// direct masked products in double, at lengths around those of a chunk and with documents that begin inside one;
// gradients against differences; what holds without decay and with an infinite one; rows that go on from a state.
#include "kernels/ops/cores/linear_attention.h"

#include <gtest/gtest.h>

#include "kernels/formulas/linear_attention.h"
#include "kernels/op_example.h"

namespace sluice {
namespace {

struct LinearExample : ExampleBase {
  static constexpr int64_t kHeads = 4, kKv = 2, kD = 9, kDv = 35;
  using ExampleBase::ExampleBase;
  const size_t q = given(kHeads * kD), k = given(kKv * kD), v = given(kKv * kDv);
  AttentionShape shape() const { return {N / T, T, kHeads, kKv, kD, kDv}; }
  LinearAttentionForward inputs(const Tensors& t) const {
    return {.shape = shape(), .decay = 0.6, .q = t[q], .k = t[k], .v = t[v], .out = {}};
  }
};

struct ForwardExample : LinearExample {
  using LinearExample::LinearExample;
  const size_t out = written(kHeads * kDv), state = written_flat(acc, {N / T * kHeads * kD, kDv});
  LinearAttentionForward op(const Tensors& t) const {
    LinearAttentionForward op = inputs(t);
    op.out = t[out], op.state = t[state];
    return op;
  }
};

struct BackwardExample : LinearExample {
  using LinearExample::LinearExample;
  const size_t d_out = given(kHeads * kDv), d_q = written(kHeads * kD), d_k = written(kKv * kD),
               d_v = written(kKv * kDv);
  LinearAttentionBackward op(const Tensors& t) const { return {inputs(t), t[d_out], t[d_q], t[d_k], t[d_v]}; }
};

struct Case {
  AttentionShape shape;
  bool documents;
  double decay;
};
const Case kCases[] = {
    {{1, 1, 1, 1, 1, 1}, false, 1},     {{2, 9, 4, 2, 7, 5}, false, 0.7},    {{2, 9, 4, 2, 7, 5}, true, 0.7},
    {{1, 63, 2, 1, 16, 33}, false, 1},  {{1, 64, 3, 3, 8, 16}, false, 0},    {{1, 65, 6, 2, 20, 64}, true, 0.3},
    {{2, 130, 2, 1, 64, 24}, false, 1}, {{1, 200, 5, 5, 12, 12}, true, 1.1}, {{1, 3, 1, 1, 256, 256}, false, 0.5}};

// body(isa, type, case)
template <class Body>
void for_cases(Body body) {
  for (const IsaKernels* isa : available_isas())
    for (const DType type : kActivationTypes)
      for (const Case& one : kCases) {
        const AttentionShape& s = one.shape;
        SCOPED_TRACE(fmt::format("{} {} B {} T {} H {} KV {} D {} and {}, documents {}, decay {}", isa->name,
                                 name_of(type), s.B, s.T, s.H, s.KV, s.D_qk, s.D_v, one.documents, one.decay));
        body(*isa, type, one);
      }
}

// A number and the sum of the magnitudes that it is a sum of.
struct Sum {
  double value = 0, size = 0;
  void add(double x) { value += x, size += std::fabs(x); }
};

// All tensors of one case. Documents of 4 rows, 90 and again: they begin inside chunks and run over more than one.
struct Buffers {
  AttentionShape s;
  double decay;
  int64_t N = s.B * s.T, group = s.H / s.KV;
  TestBuffer q, k, v, out, first, d, d_q, d_k, d_v;
  std::vector<float> workspace;
  bool documents;

  Buffers(DType type, const Case& one)
      : s(one.shape),
        decay(one.decay),
        q(type, N, s.H * s.D_qk, s.H * s.D_qk + 3),
        k(type, N, s.KV * s.D_qk),
        v(type, N, s.KV * s.D_v, s.KV * s.D_v + 5),
        out(type, N, s.H * s.D_v, s.H * s.D_v + 1),
        first(DType::kI32, Shape{N}),
        d(type, N, s.H * s.D_v),
        d_q(type, N, s.H * s.D_qk),
        d_k(type, N, s.KV * s.D_qk, s.KV * s.D_qk + 2),
        d_v(type, N, s.KV * s.D_v),
        workspace(size_t(cpu_backend().workspace<LinearAttentionBackward>({one.shape, type})) + 16),
        documents(one.documents) {
    q.randomise(1), k.randomise(2), v.randomise(3), d.randomise(4);
    for (int64_t n = 0; n < N; ++n) {
      const int64_t t = n % s.T;
      first.set(n, documents ? double(t / 94 * 94 + (t % 94 >= 4 ? 4 : 0)) : 0.0);
    }
  }
  LinearAttentionForward forward() const {
    return {.shape = s,
            .decay = decay,
            .q = q,
            .k = k,
            .v = v,
            .first_key = documents ? first.tensor() : Tensor{},
            .out = out};
  }
  LinearAttentionBackward backward() {
    return {forward(), d, d_q, d_k, d_v, Tensor(workspace.data(), DType::kF32, {int64_t(workspace.size())})};
  }
  double kept(int64_t h, int64_t rows) const { return decay_after(decay * head_slope(h, s.H), rows); }
  // Adds to sums[i] lam^(n - m) (x . y) z_i for the rows m <= n of n's document; each is a number of (row, feature).
  template <class X, class Y, class Z>
  void add_before(std::vector<Sum>& sums, int64_t h, int64_t n, int64_t D, X x, Y y, Z z) const {
    for (int64_t m = n - n % s.T + int64_t(first.at(n)); m <= n; ++m) add_pair(sums, kept(h, n - m), D, n, m, x, y, z);
  }
  // The same for the rows from n on to its document's end.
  template <class X, class Y, class Z>
  void add_after(std::vector<Sum>& sums, int64_t h, int64_t n, int64_t D, X x, Y y, Z z) const {
    for (int64_t m = n; m < N && m / s.T == n / s.T && first.at(m) == first.at(n); ++m)
      add_pair(sums, kept(h, m - n), D, n, m, x, y, z);
  }

 private:
  template <class X, class Y, class Z>
  static void add_pair(std::vector<Sum>& sums, double kept, int64_t D, int64_t n, int64_t m, X x, Y y, Z z) {
    Sum product;
    for (int64_t i = 0; i < D; ++i) product.add(x(n, i) * y(m, i));
    for (size_t i = 0; i < sums.size(); ++i) {
      const double of_m = z(m, int64_t(i));
      sums[i].value += kept * product.value * of_m;
      sums[i].size += kept * product.size * std::fabs(of_m);
    }
  }
};

// Expects `found`'s columns of head h in row n; a product of D terms, then a sum over up to T rows, and lam's power.
void expect_sums(const TestBuffer& found, int64_t n, int64_t h, const std::vector<Sum>& sums, DType type,
                 double roundings) {
  for (size_t i = 0; i < sums.size(); ++i)
    ASSERT_TRUE(
        near_value(found.at(n, h * int64_t(sums.size()) + int64_t(i)), sums[i].value, type, sums[i].size, roundings))
        << "row " << n << ", head " << h << ", feature " << i;
}

TEST(LinearAttentionOp, IsTheDirectMaskedProduct) {
  for_cases([](const IsaKernels& isa, DType type, const Case& one) {
    Buffers b(type, one);
    isa.run(b.forward());
    const AttentionShape& s = b.s;
    for (int64_t n = 0; n < b.N; ++n)
      for (int64_t h = 0; h < s.H; ++h) {
        std::vector<Sum> sums(size_t(s.D_v));
        b.add_before(
            sums, h, n, s.D_qk, [&](int64_t row, int64_t i) { return b.q.at(row, h * s.D_qk + i); },
            [&](int64_t row, int64_t i) { return b.k.at(row, h / b.group * s.D_qk + i); },
            [&](int64_t row, int64_t i) { return b.v.at(row, h / b.group * s.D_v + i); });
        expect_sums(b.out, n, h, sums, type, double(s.D_qk + s.T) + 8);
      }
    EXPECT_TRUE(b.out.untouched());
  });
}

TEST(LinearAttentionOp, HasTheGradientsOfTheDirectProduct) {
  for_cases([](const IsaKernels& isa, DType type, const Case& one) {
    Buffers b(type, one);
    isa.run(b.backward());
    const AttentionShape& s = b.s;
    for (int64_t n = 0; n < b.N; ++n)
      for (int64_t g = 0; g < s.KV; ++g) {
        const auto k = [&](int64_t row, int64_t i) { return b.k.at(row, g * s.D_qk + i); };
        const auto v = [&](int64_t row, int64_t i) { return b.v.at(row, g * s.D_v + i); };
        std::vector<Sum> of_k(size_t(s.D_qk)), of_v(size_t(s.D_v));
        for (int64_t h = g * b.group; h < (g + 1) * b.group; ++h) {
          const auto q = [&](int64_t row, int64_t i) { return b.q.at(row, h * s.D_qk + i); };
          const auto d = [&](int64_t row, int64_t i) { return b.d.at(row, h * s.D_v + i); };
          std::vector<Sum> of_q(size_t(s.D_qk));
          b.add_before(of_q, h, n, s.D_v, d, v, k);
          expect_sums(b.d_q, n, h, of_q, type, double(s.D_v + s.T) + 8);
          b.add_after(of_k, h, n, s.D_v, v, d, q);
          b.add_after(of_v, h, n, s.D_qk, k, q, d);
        }
        expect_sums(b.d_k, n, g, of_k, type, double(s.D_v + s.T * b.group) + 8);
        expect_sums(b.d_v, n, g, of_v, type, double(s.D_qk + s.T * b.group) + 8);
      }
    EXPECT_TRUE(b.d_q.untouched() && b.d_k.untouched() && b.d_v.untouched());
  });
}

TEST(LinearAttentionOp, GradientsAreDifferencesOfTheResult) {
  const IsaKernels& isa = *available_isas().back();
  for (const Case& one : {kCases[1], kCases[2]}) {
    Buffers b(DType::kF64, one);
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

TEST(LinearAttentionOp, KeepsItsOwnRowAloneWhereAllIsForgotten) {
  for (const IsaKernels* isa : available_isas()) {
    Buffers b(DType::kF64, {{1, 70, 2, 1, 6, 5}, false, INFINITY});
    isa->run(b.forward());
    for (int64_t n = 0; n < b.N; ++n)
      for (int64_t h = 0; h < 2; ++h) {
        double product = 0;
        for (int64_t i = 0; i < 6; ++i) product += b.q.at(n, h * 6 + i) * b.k.at(n, i);
        for (int64_t i = 0; i < 5; ++i) EXPECT_NEAR(b.out.at(n, h * 5 + i), product * b.v.at(n, i), 1e-13);
      }
  }
}

TEST(LinearAttentionOp, SlopesFallFromHeadToHead) {
  for (int64_t h = 0; h < 8; ++h) EXPECT_NEAR(head_slope(h, 8), std::exp2(-double(h + 1)), 1e-15);
  // Six heads: four with those of four, then the first and the third of eight.
  for (int64_t h = 0; h < 4; ++h) EXPECT_NEAR(head_slope(h, 6), std::exp2(-2.0 * double(h + 1)), 1e-15);
  EXPECT_NEAR(head_slope(4, 6), 0.5, 1e-15);
  EXPECT_NEAR(head_slope(5, 6), 0.125, 1e-15);
  EXPECT_NEAR(head_slope(0, 1), std::exp2(-8.0), 1e-15);
}

// Token by token, and in pieces that are no whole chunks: what is summed is the same, in another order.
TEST(LinearAttentionOp, GoesOnFromItsState) {
  for (const IsaKernels* isa : available_isas())
    for (const int64_t piece : {1, 7, 64, 100}) {
      Buffers whole(DType::kF64, {{1, 150, 4, 2, 8, 20}, false, 0.8});
      isa->run(whole.forward());
      const AttentionShape& s = whole.s;
      TestBuffer state(DType::kF64, s.H * s.D_qk, s.D_v), out = whole.out;
      poison(state);
      for (int64_t t = 0; t < s.T; t += piece) {
        LinearAttentionForward step = whole.forward();
        step.shape.T = std::min(piece, s.T - t);
        const auto rows = [&](const Tensor& x) { return x.row_range(t, step.shape.T); };
        step.q = rows(step.q), step.k = rows(step.k), step.v = rows(step.v), step.out = rows(out);
        step.state = state, step.resume = t > 0;
        isa->run(step);
      }
      for (int64_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out.at(i), whole.out.at(i), 1e-11) << piece << " " << i;
    }
}

// No row changes a bit of those before it, and what a document holds, infinities too, never reaches the next.
TEST(LinearAttentionOp, LooksBackAloneAndInItsDocument) {
  const IsaKernels& isa = *available_isas().back();
  const Case one = {{1, 130, 2, 1, 8, 8}, true, 0.4};
  Buffers b(DType::kF32, one), changed(DType::kF32, one);
  changed.v.set(100 * 8, 9), changed.k.set(100 * 8, -7);
  isa.run(b.forward()), isa.run(changed.forward());
  for (int64_t n = 0; n < b.N; ++n) {
    bool same = true;
    for (int64_t i = 0; i < 16; ++i) same &= b.out.at(n, i) == changed.out.at(n, i);
    EXPECT_EQ(same, n < 100) << n;
  }
  for (int64_t i = 0; i < 8; ++i) b.v.set(50 * 8 + i, INFINITY), b.k.set(51 * 8 + i, INFINITY);
  isa.run(b.forward()), isa.run(b.backward());
  for (int64_t n = 0; n < b.N; ++n) {
    if (n >= 4 && n < 94) continue;  // the document of rows 50 and 51
    for (int64_t i = 0; i < 16; ++i) ASSERT_TRUE(std::isfinite(b.out.at(n, i)) && std::isfinite(b.d_q.at(n, i))) << n;
    for (int64_t i = 0; i < 8; ++i) ASSERT_TRUE(std::isfinite(b.d_k.at(n, i)) && std::isfinite(b.d_v.at(n, i))) << n;
  }
}

}  // namespace

SLUICE_OP_EXAMPLE(LinearAttentionForward, ForwardExample)
SLUICE_OP_EXAMPLE(LinearAttentionBackward, BackwardExample)

}  // namespace sluice
