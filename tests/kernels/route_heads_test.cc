// Mixture of heads: examples for the tests that walk the list of ops, and the ops against plain loops in double.
#include "kernels/ops/stages/route_heads.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "kernels/op_example.h"

namespace sluice {
namespace {

struct RouteExample : ExampleBase {
  static constexpr HeadRouting kRouting = {.heads = 7, .shared = 2, .active = 3, .mask = false};
  static constexpr int64_t kD = 9, kLogits = 9;
  using ExampleBase::ExampleBase;
  const size_t x = given(kRouting.heads * kD), logits = given(kLogits);
  RouteHeadsForward inputs(const Tensors& t) const {
    return {.routing = kRouting, .x = t[x], .logits = t[logits], .out = {}};
  }
};

struct ForwardExample : RouteExample {
  using RouteExample::RouteExample;
  const size_t out = written(kRouting.heads * kD);
  RouteHeadsForward op(const Tensors& t) const {
    RouteHeadsForward op = inputs(t);
    op.out = t[out];
    return op;
  }
};

struct BackwardExample : RouteExample {
  using RouteExample::RouteExample;
  const size_t d_out = given(kRouting.heads * kD), d_x = written(kRouting.heads * kD), d_logits = written(kLogits);
  RouteHeadsBackward op(const Tensors& t) const { return {inputs(t), t[d_out], t[d_x], t[d_logits]}; }
};

struct BalanceExample : ExampleBase {
  using ExampleBase::ExampleBase;
  const size_t logits = given(9), d_logits = given(9), loss = given_flat(acc, {1});
  RouteBalance op(const Tensors& t) const {
    return {.routing = RouteExample::kRouting,
            .T = T,
            .value_scale = 0.3,
            .grad_scale = 2,
            .logits = t[logits],
            .d_logits = t[d_logits],
            .loss = t[loss]};
  }
};

struct LengthsExample : ExampleBase {
  static constexpr int64_t kHeads = 5, kShared = 1, kD = 9;
  using ExampleBase::ExampleBase;
  const size_t q = given(kHeads * kD);
};

struct LengthsForwardExample : LengthsExample {
  using LengthsExample::LengthsExample;
  const size_t logits = written(kHeads - kShared);
  QueryLengthsForward op(const Tensors& t) const { return {kHeads, kShared, t[q], t[logits]}; }
};

struct LengthsBackwardExample : LengthsExample {
  using LengthsExample::LengthsExample;
  const size_t d_logits = given(kHeads - kShared), d_q = given(kHeads * kD);
  QueryLengthsBackward op(const Tensors& t) const { return {kHeads, kShared, t[q], t[d_logits], t[d_q]}; }
};

// ---- plain loops ----------------------------------------------------------------------------------------------------

using Numbers = std::vector<double>;

Numbers plain_softmax(const Numbers& l) {
  const double most = *std::max_element(l.begin(), l.end());
  Numbers p;
  double sum = 0;
  for (const double one : l) p.push_back(std::exp(one - most)), sum += p.back();
  for (double& one : p) one /= sum;
  return p;
}

// The routed heads by falling logits, of equal ones the first first; 1 for the first `active`.
Numbers plain_mask(const Numbers& routed, int active) {
  std::vector<size_t> order(routed.size());
  for (size_t e = 0; e < order.size(); ++e) order[e] = e;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return routed[a] > routed[b]; });
  Numbers mask(routed.size(), 0);
  for (int k = 0; k < active; ++k) mask[order[size_t(k)]] = 1;
  return mask;
}

Numbers plain_factors(const Numbers& logits, const HeadRouting& r) {
  const auto part = [&](int first, int count) {
    return Numbers(logits.begin() + first, logits.begin() + first + count);
  };
  const Numbers routed = part(0, r.routed()), mask = plain_mask(routed, r.active), p = plain_softmax(routed);
  Numbers out(size_t(r.shared), 1.0);
  if (r.mask) {
    out.insert(out.end(), mask.begin(), mask.end());
    return out;
  }
  Numbers w = {1, 1};
  if (r.shared > 0) w = plain_softmax(part(r.parts_at(), 2)), w[0] *= 2, w[1] *= 2;
  if (r.shared > 1) out = plain_softmax(part(r.routed(), r.shared));
  for (double& one : out) one *= w[0] * (r.shared > 1 ? r.shared : 1);
  double taken = 0;
  for (size_t e = 0; e < p.size(); ++e) taken += p[e] * mask[e];
  for (size_t e = 0; e < p.size(); ++e) out.push_back(w[1] * r.active * p[e] * mask[e] / taken);
  return out;
}

const HeadRouting kRoutings[] = {{1, 0, 1, false},    {4, 0, 4, false}, {6, 0, 2, false},
                                 {5, 1, 2, false},    {8, 2, 3, false}, {9, 8, 1, false},
                                 {40, 13, 20, false}, {6, 2, 2, true},  {33, 0, 16, true}};

struct Buffers {
  HeadRouting r;
  int64_t N, D;
  TestBuffer x, logits, d, out, d_logits;
  Buffers(DType type, const HeadRouting& r, int64_t N, int64_t D)
      : r(r),
        N(N),
        D(D),
        x(type, N, r.heads * D, r.heads * D + 3),
        logits(type, N, r.logits(), r.logits() + 2),
        d(type, N, r.heads * D),
        out(type, N, r.heads * D, r.heads * D + 1),
        d_logits(type, N, r.logits()) {
    x.randomise(1), logits.randomise(2, 3), d.randomise(3);
  }
  RouteHeadsForward inputs() const { return {r, x, logits, {}}; }
  RouteHeadsForward forward() const { return {r, x, logits, out}; }
  RouteHeadsBackward backward(const TestBuffer& d_x) const { return {inputs(), d, d_x, d_logits}; }
  Numbers row(int64_t n) const {
    Numbers out;
    for (int64_t i = 0; i < r.logits(); ++i) out.push_back(logits.at(n, i));
    return out;
  }
};

// body(isa, type, buffers)
template <class Body>
void for_cases(Body body) {
  for_kernels([&](const IsaKernels& isa, DType type) {
    for (const HeadRouting& r : kRoutings)
      for (const auto& [N, D] : {std::pair<int64_t, int64_t>{1, 1}, {9, 7}, {40, 64}}) {
        SCOPED_TRACE(fmt::format("{} heads, {} shared, {} active, mask {}; {} rows of {} features", r.heads, r.shared,
                                 r.active, r.mask, N, D));
        Buffers b(type, r, N, D);
        body(isa, type, b);
      }
  });
}

TEST(RouteHeads, ScalesHeadsByWhatTheRouterSays) {
  for_cases([](const IsaKernels& isa, DType type, Buffers& b) {
    isa.run(b.forward());
    for (int64_t n = 0; n < b.N; ++n) {
      const Numbers want = plain_factors(b.row(n), b.r);
      for (int64_t h = 0; h < b.r.heads; ++h)
        for (int64_t i = 0; i < b.D; ++i) {
          const double x = b.x.at(n, h * b.D + i), factor = want[size_t(h)];
          // Two exponentials, sums of up to as many terms as there are heads, three products and two quotients.
          ASSERT_TRUE(near_value(b.out.at(n, h * b.D + i), factor * x, type, std::fabs(factor * x), 24 + b.r.heads))
              << n << " " << h;
        }
    }
    EXPECT_TRUE(b.out.untouched());
  });
}

// Whether logits are all equal is up to the router: with zero weights they are.
TEST(RouteHeads, LeavesEveryBitWhereAllLogitsAreEqualAndAllHeadsActive) {
  for_kernels([](const IsaKernels& isa, DType type) {
    for (const int shared : {0, 1, 3, 6}) {
      const HeadRouting r = {.heads = 7, .shared = shared, .active = 7 - shared};
      Buffers b(type, r, 5, 11);
      for (int64_t i = 0; i < b.logits.size(); ++i) b.logits.set(i, 0);
      isa.run(b.forward());
      TestBuffer d_x(type, b.N, r.heads * b.D);
      isa.run(b.backward(d_x));
      for (int64_t n = 0; n < b.N; ++n)
        for (int64_t c = 0; c < r.heads * b.D; ++c) {
          ASSERT_EQ(b.out.at(n, c), b.x.at(n, c)) << shared;
          ASSERT_EQ(d_x.at(n, c), b.d.at(n, c)) << shared;
        }
    }
  });
}

TEST(RouteHeads, TakesTheFirstOfEqualLogits) {
  for_kernels([](const IsaKernels& isa, DType type) {
    Buffers b(type, {.heads = 5, .shared = 0, .active = 2}, 2, 3);
    for (int64_t i = 0; i < b.logits.size(); ++i) b.logits.set(i, 0.5);
    b.logits.set(7, 0.75);  // of row 1 the third
    isa.run(b.forward());
    for (int64_t h = 0; h < 5; ++h) {
      EXPECT_EQ(b.out.at(0, 3 * h) != 0, h < 2) << h;
      EXPECT_EQ(b.out.at(1, 3 * h) != 0, h == 2 || h == 0) << h;
    }
  });
}

// In double against differences of the result, through the heads and through the logits.
TEST(RouteHeads, GradientsAreDifferencesOfTheResult) {
  const IsaKernels& isa = *available_isas().back();
  for (const HeadRouting& r : kRoutings) {
    SCOPED_TRACE(fmt::format("{} heads, {} shared, {} active, mask {}", r.heads, r.shared, r.active, r.mask));
    Buffers b(DType::kF64, r, 2, 3);
    TestBuffer d_x(DType::kF64, 2, r.heads * 3);
    isa.run(b.backward(d_x));
    const auto loss = [&] {
      isa.run(b.forward());
      double sum = 0;
      for (int64_t n = 0; n < 2; ++n)
        for (int64_t c = 0; c < r.heads * 3; ++c) sum += b.out.at(n, c) * b.d.at(n, c);
      return sum;
    };
    for (int64_t n = 0; n < 2; ++n)
      for (int64_t c = 0; c < r.heads * 3; ++c)
        EXPECT_NEAR(d_x.at(n, c), slope(b.x, n * r.heads * 3 + c, loss), 1e-7) << n << " " << c;
    if (r.mask) continue;
    for (int64_t i = 0; i < b.logits.size(); ++i) EXPECT_NEAR(b.d_logits.at(i), slope(b.logits, i, loss), 1e-7) << i;
  }
}

// With a mask the gradient is that of factors p in the place of the mask.
TEST(RouteHeads, GradientGoesStraightThroughAMask) {
  const IsaKernels& isa = *available_isas().back();
  const HeadRouting r = {.heads = 6, .shared = 2, .active = 2, .mask = true};
  Buffers b(DType::kF64, r, 3, 4);
  TestBuffer d_x(DType::kF64, 3, 24);
  isa.run(b.backward(d_x));
  const auto loss = [&] {
    double sum = 0;
    for (int64_t n = 0; n < 3; ++n) {
      const Numbers p = plain_softmax(b.row(n));
      for (int64_t h = 2; h < 6; ++h)
        for (int64_t i = 0; i < 4; ++i) sum += p[size_t(h - 2)] * b.x.at(n, 4 * h + i) * b.d.at(n, 4 * h + i);
    }
    return sum;
  };
  for (int64_t i = 0; i < b.logits.size(); ++i) EXPECT_NEAR(b.d_logits.at(i), slope(b.logits, i, loss), 1e-8) << i;
}

TEST(RouteHeads, LetsANanThrough) {
  for (const int64_t at : {0, 1, 4, 6}) {  // a routed head's logit, a shared one's, a part's
    Buffers b(DType::kF32, {.heads = 5, .shared = 2, .active = 2}, 1, 1);
    b.logits.set(at, NAN);
    available_isas().back()->run(b.forward());
    double sum = 0;
    for (int64_t h = 0; h < 5; ++h) sum += b.out.at(0, h);
    EXPECT_TRUE(std::isnan(sum)) << at;
  }
}

// ---- the balance ----------------------------------------------------------------------------------------------------

double plain_balance(const TestBuffer& logits, const HeadRouting& r, int64_t T) {
  double total = 0;
  for (int64_t first = 0; first < logits.size() / r.logits(); first += T) {
    Numbers p(size_t(r.routed()), 0), m = p;
    for (int64_t n = first; n < first + T; ++n) {
      Numbers row;
      for (int64_t e = 0; e < r.routed(); ++e) row.push_back(logits.at(n, e));
      const Numbers of_row = plain_softmax(row), mask = plain_mask(row, r.active);
      for (size_t e = 0; e < p.size(); ++e) p[e] += of_row[e] / double(T), m[e] += mask[e] / double(T);
    }
    for (size_t e = 0; e < p.size(); ++e) total += double(r.routed()) / r.active * p[e] * m[e];
  }
  return total;
}

TEST(RouteBalance, AddsTheLossOfEachSequence) {
  for_kernels([](const IsaKernels& isa, DType type) {
    const DType acc = accumulator_of(type);
    for (const HeadRouting& r : kRoutings)
      for (const auto& [B, T] : {std::pair<int64_t, int64_t>{1, 1}, {3, 5}, {70, 9}}) {
        TestBuffer logits(type, B * T, r.logits(), r.logits() + 3), d(type, B * T, r.logits()), loss(acc, Shape{1});
        logits.randomise(1, 2), d.randomise(2), loss.set(0, 0.5);
        const TestBuffer before = d;
        isa.run(RouteBalance{r, T, 0.25, 0, logits, d, loss});
        const double want = plain_balance(logits, r, T);
        ASSERT_TRUE(near_value(loss.at(0), 0.5 + 0.25 * want, acc, 0.5 + 0.25 * want, 32 + double(B + T + r.heads)));
        for (int64_t i = 0; i < d.size(); ++i) ASSERT_EQ(d.at(i), before.at(i));
      }
  });
}

TEST(RouteBalance, IsOneWhereAllAreTakenAlike) {
  for_kernels([](const IsaKernels& isa, DType type) {
    // Row n likes head n and the next one most: each of four heads is taken by two of four rows.
    const HeadRouting r = {.heads = 4, .shared = 0, .active = 2};
    TestBuffer logits(type, 8, 4), d(type, 8, 4), loss(accumulator_of(type), Shape{1});
    for (int64_t n = 0; n < 8; ++n)
      for (int64_t e = 0; e < 4; ++e) logits.set(4 * n + e, (e - n % 4 + 4) % 4 < 2 ? 1 : -1);
    isa.run(RouteBalance{r, 4, 0.5, 1, logits, d, loss});
    EXPECT_NEAR(loss.at(0), 1, 1e-6);
    // All rows liking the same two heads is worse.
    for (int64_t n = 0; n < 8; ++n)
      for (int64_t e = 0; e < 4; ++e) logits.set(4 * n + e, e < 2 ? 1 : -1);
    loss.set(0, 0);
    isa.run(RouteBalance{r, 4, 0.5, 1, logits, d, loss});
    EXPECT_GT(loss.at(0), 1.5);
  });
}

TEST(RouteBalance, ItsGradientIsTheDifferenceOfItsValue) {
  const IsaKernels& isa = *available_isas().back();
  for (const HeadRouting& r : kRoutings) {
    TestBuffer logits(DType::kF64, 6, r.logits()), d(DType::kF64, 6, r.logits()), loss(DType::kF64, Shape{1});
    logits.randomise(1);
    isa.run(RouteBalance{r, 3, 0, 2, logits, d, loss});
    const TestBuffer gradient = d;
    const auto value = [&] {
      loss.set(0, 0);
      isa.run(RouteBalance{r, 3, 2, 0, logits, d, loss});
      return loss.at(0);
    };
    for (int64_t i = 0; i < logits.size(); ++i) EXPECT_NEAR(gradient.at(i), slope(logits, i, value), 1e-7) << i;
  }
}

// ---- lengths of queries ---------------------------------------------------------------------------------------------

double plain_length(const TestBuffer& q, int64_t n, int64_t head, int64_t D) {
  double square = 0;
  for (int64_t i = 0; i < D; ++i) square += q.at(n, head * D + i) * q.at(n, head * D + i);
  return std::sqrt(square);
}

TEST(QueryLengths, AreDividedByTheirDeviation) {
  for_kernels([](const IsaKernels& isa, DType type) {
    for (const auto& [N, D] : {std::pair<int64_t, int64_t>{1, 1}, {7, 65}})
      for (const int64_t shared : {0, 3}) {
        const int64_t H = 3 + shared;
        TestBuffer q(type, N, H * D, H * D + 2), logits(type, N, 3, 5);
        q.randomise(1);
        isa.run(QueryLengthsForward{H, shared, q, logits});
        for (int64_t n = 0; n < N; ++n) {
          Numbers length;
          for (int64_t h = shared; h < H; ++h) length.push_back(plain_length(q, n, h, D));
          const double mean = (length[0] + length[1] + length[2]) / 3;
          double variance = kLengthVariance;
          for (const double one : length) variance += (one - mean) * (one - mean) / 2;
          for (int64_t e = 0; e < 3; ++e) {
            const double want = length[size_t(e)] / std::sqrt(variance);
            // A difference of lengths has their roundings, relative to a deviation that may be small.
            const double spread = mean / std::sqrt(variance);
            ASSERT_TRUE(near_value(logits.at(n, e), want, type, want * (1 + spread), 12 + double(D) / 4));
          }
        }
        EXPECT_TRUE(logits.untouched());
      }
  });
}

TEST(QueryLengths, GradientIsTheDifferenceOfTheLogits) {
  const IsaKernels& isa = *available_isas().back();
  TestBuffer q(DType::kF64, 2, 5 * 4), logits(DType::kF64, 2, 4), d(DType::kF64, 2, 4), d_q(DType::kF64, 2, 5 * 4);
  q.randomise(1), d.randomise(2), d_q.randomise(3);
  const TestBuffer before = d_q;
  isa.run(QueryLengthsBackward{5, 1, q, d, d_q});
  const auto loss = [&] {
    isa.run(QueryLengthsForward{5, 1, q, logits});
    double sum = 0;
    for (int64_t i = 0; i < logits.size(); ++i) sum += logits.at(i) * d.at(i);
    return sum;
  };
  for (int64_t i = 0; i < q.size(); ++i) EXPECT_NEAR(d_q.at(i) - before.at(i), slope(q, i, loss), 1e-7) << i;
}

TEST(QueryLengths, OfZeroHaveNoGradient) {
  TestBuffer q(DType::kF32, 1, 3), d(DType::kF32, 1, 3), d_q(DType::kF32, 1, 3), logits(DType::kF32, 1, 3);
  d.randomise(1);
  for (int64_t i = 0; i < 3; ++i) q.set(i, 0), d_q.set(i, 0);
  available_isas().back()->run(QueryLengthsForward{3, 0, q, logits});
  available_isas().back()->run(QueryLengthsBackward{3, 0, q, d, d_q});
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(logits.at(i), 0);
    EXPECT_EQ(d_q.at(i), 0);
  }
}

}  // namespace

SLUICE_OP_EXAMPLE(RouteHeadsForward, ForwardExample)
SLUICE_OP_EXAMPLE(RouteHeadsBackward, BackwardExample)
SLUICE_OP_EXAMPLE(RouteBalance, BalanceExample)
SLUICE_OP_EXAMPLE(QueryLengthsForward, LengthsForwardExample)
SLUICE_OP_EXAMPLE(QueryLengthsBackward, LengthsBackwardExample)

}  // namespace sluice
