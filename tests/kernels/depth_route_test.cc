// Mixes over depth: examples for the tests that walk the list of ops, and the ops against plain loops in double.
#include "kernels/ops/residual/depth_route.h"

#include <gtest/gtest.h>

#include "kernels/op_example.h"

namespace sluice {
namespace {

// Four sources, of which three have weights: states 0, 2, 4 and 5 of six.
struct DepthExample : ExampleBase {
  using ExampleBase::ExampleBase;
  const size_t states = given(6 * C), query = given_flat(acc, {C}), gain = positive(acc, {C});
  DepthRouteForward inputs(const Tensors& t) const {
    return {.states = t[states],
            .step = 2,
            .last = 5,
            .routed = 3,
            .base = 1,
            .query = t[query],
            .gain = t[gain],
            .epsilon = 1e-5,
            .out = {}};
  }
};

struct ForwardExample : DepthExample {
  using DepthExample::DepthExample;
  const size_t out = written(C);
  DepthRouteForward op(const Tensors& t) const {
    DepthRouteForward op = inputs(t);
    op.out = t[out];
    return op;
  }
};

struct BackwardExample : DepthExample {
  using DepthExample::DepthExample;
  const size_t d_out = given(C), d_sources = written(4 * C), d_query = written_flat(acc, {C}),
               d_gain = written_flat(acc, {C});
  DepthRouteBackward op(const Tensors& t) const {
    return {.forward = inputs(t),
            .d_out = t[d_out],
            .d_sources = t[d_sources],
            .add_to_d_sources = false,
            .d_query = t[d_query],
            .d_gain = t[d_gain],
            .accumulate = false,
            .workspace = {}};
  }
};

// ---- against plain loops --------------------------------------------------------------------------------------------

struct Sizes {
  int64_t N, C, step, last, routed;
  bool keyed = true;
  double base = 0;
  int64_t sources() const { return (last + step - 1) / step + 1; }
};

constexpr Sizes kSizes[] = {
    {1, 1, 1, 0, 1},
    {3, 5, 1, 1, 2},
    {4, 64, 1, 3, 4},
    {7, 33, 2, 5, 4},
    {70, 300, 3, 9, 4},
    {5, 130, 4, 9, 3, true, 1},
    {9, 70, 1, 40, 41},
    {3, 96, 1, 6, 0, false, 1},
    {3, 17, 2, 7, 4, false, 1},
    {2, 1031, 1, 5, 6, true, 1},
};

struct Buffers {
  Sizes s;
  TestBuffer states, query, gain, d, out, d_sources, d_query, d_gain, workspace;
  Buffers(DType type, const Sizes& s)
      : s(s),
        states(type, s.N, (s.last + 2) * s.C, (s.last + 2) * s.C + 3),
        query(accumulator_of(type), Shape{s.C}),
        gain(query),
        d(type, s.N, s.C, s.C + 2),
        out(type, s.N, s.C, s.C + 1),
        d_sources(type, s.N, (s.sources() + 1) * s.C),
        d_query(query),
        d_gain(query),
        workspace(DType::kF32, Shape{cpu_backend().workspace<DepthRouteBackward>({s.C})}) {
    states.randomise(1), query.randomise(2), gain.randomise(3, 0.3), d.randomise(4), d_sources.randomise(5);
    d_query.randomise(6), d_gain.randomise(7);
    for (int64_t c = 0; c < s.C; ++c) gain.set(c, 1 + gain.at(c)), query.set(c, query.at(c) / std::sqrt(double(s.C)));
  }
  DepthRouteForward forward() const {
    return {.states = states,
            .step = s.step,
            .last = s.last,
            .routed = s.routed,
            .base = s.base,
            .query = s.keyed ? query.tensor() : Tensor{},
            .gain = s.keyed ? gain.tensor() : Tensor{},
            .epsilon = 1e-3,
            .out = out};
  }
  DepthRouteBackward backward(bool add) const {
    DepthRouteBackward op = {.forward = forward(),
                             .d_out = d,
                             .d_sources = d_sources,
                             .add_to_d_sources = add,
                             .d_query = s.keyed ? d_query.tensor() : Tensor{},
                             .d_gain = s.keyed ? d_gain.tensor() : Tensor{},
                             .accumulate = add,
                             .workspace = workspace};
    op.forward.out = {};
    return op;
  }
  double source(int64_t n, int64_t m, int64_t c) const { return states.at(n, std::min(m * s.step, s.last) * s.C + c); }
  double key(int64_t c) const { return query.at(c) * gain.at(c); }
};

// Of one row, in double.
struct Plain {
  std::vector<double> alpha, rms, logit;
  Plain(const Buffers& b, int64_t n) {
    const Sizes& s = b.s;
    double sum = 0;
    for (int64_t m = 0; m < s.routed; ++m) {
      double squares = 0, key = 0;
      for (int64_t c = 0; c < s.C; ++c) squares += std::pow(b.source(n, m, c), 2), key += b.key(c) * b.source(n, m, c);
      rms.push_back(1 / std::sqrt(squares / double(s.C) + 1e-3));
      logit.push_back(s.keyed ? rms.back() * key : 0);
      sum += std::exp(logit.back());
    }
    for (int64_t m = 0; m < s.routed; ++m) alpha.push_back(std::exp(logit[size_t(m)]) / sum);
  }
  double total(const Sizes& s, int64_t m) const { return s.base + (m < s.routed ? alpha[size_t(m)] : 0); }
  // At the logits.
  std::vector<double> slopes(const Buffers& b, int64_t n) const {
    std::vector<double> out;
    double mean = 0;
    for (size_t m = 0; m < alpha.size(); ++m) {
      double dot = 0;
      for (int64_t c = 0; c < b.s.C; ++c) dot += b.d.at(n, c) * b.source(n, int64_t(m), c);
      out.push_back(dot);
      mean += alpha[m] * dot;
    }
    for (size_t m = 0; m < alpha.size(); ++m) out[m] = b.s.keyed ? alpha[m] * (out[m] - mean) : 0;
    return out;
  }
};

template <class Body>
void for_cases(Body body) {
  for_kernels([&](const IsaKernels& isa, DType type) {
    for (const Sizes& s : kSizes) {
      SCOPED_TRACE(fmt::format("[{},{}], step {}, last {}, routed {}", s.N, s.C, s.step, s.last, s.routed));
      Buffers b(type, s);
      body(isa, type, b);
    }
  });
}

// Logits are sums of C terms, in lanes; exponentials and what follows cost a few roundings more.
double steps_of(const Sizes& s) { return 40 + double(s.C) / 4 + 4 * double(s.sources()); }

TEST(DepthRoute, MixesSourcesByTheirWeights) {
  for_cases([](const IsaKernels& isa, DType type, Buffers& b) {
    isa.run(b.forward());
    for (int64_t n = 0; n < b.s.N; ++n) {
      const Plain plain(b, n);
      for (int64_t c = 0; c < b.s.C; ++c) {
        double want = 0, size = 0;
        for (int64_t m = 0; m < b.s.sources(); ++m) {
          const double term = plain.total(b.s, m) * b.source(n, m, c);
          want += term, size += std::fabs(term);
        }
        ASSERT_TRUE(near_value(b.out.at(n, c), want, type, size, steps_of(b.s))) << n << " " << c;
      }
    }
    EXPECT_TRUE(b.out.untouched());
  });
}

// With the magnitudes of what is added up, for the query and the gain.
struct Sum {
  double value = 0, size = 0;
  void add(double term) { value += term, size += std::fabs(term); }
};

void expect_gradients(const Buffers& b, const Buffers& before, DType type, bool add) {
  const Sizes& s = b.s;
  std::vector<Sum> g(static_cast<size_t>(s.C));
  for (int64_t n = 0; n < s.N; ++n) {
    const Plain plain(before, n);
    const std::vector<double> slope = plain.slopes(before, n);
    double norm = 0;  // of d . V, by which slopes are off
    for (int64_t c = 0; c < s.C; ++c) norm += std::pow(before.d.at(n, c), 2);
    for (int64_t m = 0; m < s.sources(); ++m)
      for (int64_t c = 0; c < s.C; ++c) {
        const double v = before.source(n, m, c), was = add ? before.d_sources.at(n, m * s.C + c) : 0;
        double want = was + plain.total(s, m) * before.d.at(n, c), size = std::fabs(was) + std::fabs(want);
        if (s.keyed && m < s.routed) {
          const double a = slope[size_t(m)], r = plain.rms[size_t(m)], l = plain.logit[size_t(m)];
          want += a * r * before.key(c) - a * l * r * r / double(s.C) * v;
          const double most = std::sqrt(norm * double(s.C)) + 1;
          size += most * (std::fabs(r * before.key(c)) + std::fabs(l * r * r * v) / double(s.C));
          g[size_t(c)].add(a * r * v);
          g[size_t(c)].size += most * std::fabs(r * v) * plain.alpha[size_t(m)];
        }
        ASSERT_TRUE(near_value(b.d_sources.at(n, m * s.C + c), want, type, size, steps_of(s)))
            << n << " " << m << " " << c;
      }
    for (int64_t c = s.sources() * s.C; c < b.d_sources.tensor().cols(); ++c)
      ASSERT_EQ(b.d_sources.at(n, c), before.d_sources.at(n, c)) << "behind the sources";
  }
  const DType acc = accumulator_of(type);
  for (int64_t c = 0; s.keyed && c < s.C; ++c) {
    const auto check = [&](const TestBuffer& found, const TestBuffer& was, double by) {
      const double start = add ? was.at(c) : 0;
      ASSERT_TRUE(near_value(found.at(c), start + by * g[size_t(c)].value, acc,
                             std::fabs(start) + std::fabs(by) * g[size_t(c)].size, steps_of(s) + double(s.N)))
          << c;
    };
    check(b.d_query, before.d_query, before.gain.at(c));
    check(b.d_gain, before.d_gain, before.query.at(c));
  }
}

TEST(DepthRoute, HasTheGradientOfTheForwardPass) {
  for_cases([](const IsaKernels& isa, DType type, Buffers& b) {
    for (const bool add : {false, true}) {
      const Buffers before = b;
      isa.run(b.backward(add));
      expect_gradients(b, before, type, add);
      EXPECT_TRUE(b.d_sources.untouched() && b.d_query.untouched() && b.d_gain.untouched() && b.workspace.untouched());
    }
  });
}

TEST(DepthRoute, GradientsAreDifferencesOfTheResult) {
  const IsaKernels& isa = *available_isas().back();
  for (const Sizes& s : {Sizes{2, 5, 2, 5, 4}, Sizes{3, 4, 3, 7, 3, true, 1}, Sizes{2, 3, 1, 2, 3, false, 1}}) {
    Buffers b(DType::kF64, s);
    isa.run(b.backward(false));
    const Buffers found = b;
    const auto loss = [&] {
      isa.run(b.forward());
      double sum = 0;
      for (int64_t i = 0; i < b.out.size(); ++i) sum += b.out.at(i) * b.d.at(i);
      return sum;
    };
    const int64_t columns = b.states.tensor().cols();
    for (int64_t n = 0; n < s.N; ++n)
      for (int64_t m = 0; m < s.sources(); ++m)
        for (int64_t c = 0; c < s.C; ++c)
          EXPECT_NEAR(found.d_sources.at(n, m * s.C + c),
                      slope(b.states, n * columns + std::min(m * s.step, s.last) * s.C + c, loss), 1e-8);
    for (int64_t c = 0; s.keyed && c < s.C; ++c) {
      EXPECT_NEAR(found.d_query.at(c), slope(b.query, c, loss), 1e-8);
      EXPECT_NEAR(found.d_gain.at(c), slope(b.gain, c, loss), 1e-8);
    }
  }
}

// One source has the weight 1, whatever the query; a mix that nothing is added to is that source, bit by bit.
TEST(DepthRoute, OfOneSourceIsIt) {
  for_kernels([](const IsaKernels& isa, DType type) {
    Buffers b(type, {7, 33, 1, 0, 1});
    isa.run(b.forward());
    for (int64_t n = 0; n < 7; ++n)
      for (int64_t c = 0; c < 33; ++c) ASSERT_EQ(b.out.at(n, c), b.source(n, 0, c));
  });
}

TEST(DepthRoute, RefusesMoreSourcesThanItHasRoomFor) {
  const int64_t states = DepthRouteForward::kMostSources + 1;
  const TestBuffer all(DType::kF32, 1, states), out(DType::kF32, 1, 1);
  DepthRouteForward op = {.states = all, .last = states - 2, .routed = 1, .out = out};
  EXPECT_NO_THROW(op.check());
  op.last = states - 1;
  EXPECT_THROW(op.check(), std::logic_error);
}

}  // namespace

SLUICE_OP_EXAMPLE(DepthRouteForward, ForwardExample)
SLUICE_OP_EXAMPLE(DepthRouteBackward, BackwardExample)

}  // namespace sluice
