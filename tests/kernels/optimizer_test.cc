// AdamW, SGD and Muon's steps against formulas in plain double, and the deterministic sums.
#include "kernels/test_buffer.h"

namespace sluice {
namespace {

const int64_t kSizes[] = {1, 15, 64, 4097, 20001};
constexpr DType kParameterTypes[] = {DType::kF32, DType::kF64};

struct State {
  TestBuffer p, g, m, v, copy;
  State(DType dtype, int64_t n)
      : p(dtype, Shape{n}), g(dtype, Shape{n}), m(dtype, Shape{n}), v(dtype, Shape{n}), copy(DType::kBF16, Shape{n}) {
    p.randomise(1);
  }
  OptimizerRange range(double weight_decay, bool adam) const {
    const bool has_copy = p.tensor().dtype == DType::kF32;
    return {p, g, m, adam ? v.tensor() : Tensor{}, has_copy ? copy.tensor() : Tensor{}, weight_decay};
  }
  void expect_copy_and_bounds() const {
    const bool has_copy = p.tensor().dtype == DType::kF32;
    for (int64_t i = 0; i < p.size(); ++i)
      ASSERT_EQ(copy.at(i), has_copy ? double(to_float(to_bf16(float(p.at(i))))) : 0.0);
    EXPECT_TRUE(p.untouched() && m.untouched() && v.untouched() && copy.untouched());
  }
};

void for_states(const std::function<void(const IsaKernels&, State&)>& test) {
  for (const IsaKernels* isa : available_isas())
    for (DType dtype : kParameterTypes)
      for (int64_t n : kSizes) {
        SCOPED_TRACE(std::string(isa->name) + " " + name_of(dtype) + " " + std::to_string(n));
        State state(dtype, n);
        test(*isa, state);
      }
}

TEST(Optimizer, AdamW) {
  for_states([](const IsaKernels& isa, State& s) {
    const double lr = 1e-2, beta1 = 0.9, beta2 = 0.99, epsilon = 1e-8, decay = 0.1, scale = 0.5;
    std::vector<double> p, m(size_t(s.p.size())), v(size_t(s.p.size()));
    for (int64_t i = 0; i < s.p.size(); ++i) p.push_back(s.p.at(i));
    for (int64_t t = 1; t <= 4; ++t) {
      s.g.randomise(10 + uint64_t(t));
      isa.run(AdamWUpdate{s.range(decay, true), {lr, beta1, beta2, epsilon, t, scale}});
      for (int64_t i = 0; i < s.p.size(); ++i) {
        const size_t k = size_t(i);
        const double g = s.g.at(i) * scale;
        p[k] -= lr * decay * p[k];
        m[k] = beta1 * m[k] + (1 - beta1) * g;
        v[k] = beta2 * v[k] + (1 - beta2) * g * g;
        const double m_hat = m[k] / (1 - std::pow(beta1, double(t))), v_hat = v[k] / (1 - std::pow(beta2, double(t)));
        p[k] -= lr * m_hat / (std::sqrt(v_hat) + epsilon);
        const DType type = s.p.tensor().dtype;
        ASSERT_TRUE(near_value(s.p.at(i), p[k], type, std::fabs(p[k]) + 0.1, double(8 * t))) << t;
        ASSERT_TRUE(near_value(s.m.at(i), m[k], type, 1 + std::fabs(g), double(4 * t)));
        ASSERT_TRUE(near_value(s.v.at(i), v[k], type, 1 + g * g, double(4 * t)));
      }
    }
    s.expect_copy_and_bounds();
  });
}

TEST(Optimizer, AdamWWithoutGradientOnlyDecays) {
  for_states([](const IsaKernels& isa, State& s) {
    const TestBuffer before = s.p;
    isa.run(AdamWUpdate{s.range(0.5, true), {0.1, 0.9, 0.999, 1e-8, 1, 1}});
    for (int64_t i = 0; i < s.p.size(); ++i)
      ASSERT_TRUE(near_value(s.p.at(i), before.at(i) * 0.95, s.p.tensor().dtype, std::fabs(before.at(i)), 2));
  });
}

TEST(Optimizer, SgdWithMomentum) {
  for (double momentum : {0.0, 0.9})
    for_states([=](const IsaKernels& isa, State& s) {
      const double lr = 0.05, decay = 0.01, scale = 2;
      std::vector<double> p, m(size_t(s.p.size()));
      for (int64_t i = 0; i < s.p.size(); ++i) p.push_back(s.p.at(i));
      OptimizerRange range = s.range(decay, false);
      if (momentum == 0) range.first_moment = Tensor{};
      for (int64_t t = 1; t <= 3; ++t) {
        s.g.randomise(10 + uint64_t(t));
        isa.run(SgdUpdate{range, {lr, momentum, scale}});
        for (int64_t i = 0; i < s.p.size(); ++i) {
          const size_t k = size_t(i);
          m[k] = momentum * m[k] + scale * s.g.at(i) + decay * p[k];
          p[k] -= lr * m[k];
          ASSERT_TRUE(
              near_value(s.p.at(i), p[k], s.p.tensor().dtype, std::fabs(p[k]) + std::fabs(m[k]) + 1, double(6 * t)));
        }
      }
      s.expect_copy_and_bounds();
    });
}

// Nesterov's momentum over three steps, and its direction: u over its norm, which adds up `size` squares.
TEST(Optimizer, MuonMomentum) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    const DType acc = accumulator_of(dtype);
    for (auto [R, C] : {std::pair<int64_t, int64_t>{1, 1}, {3, 7}, {65, 64}, {130, 257}}) {
      TestBuffer grad(acc, R, C), momentum(acc, R, C), out(dtype, R, C);
      const double beta = 0.95, scale = 0.5;
      std::vector<double> m(size_t(R * C)), u(m.size());
      for (uint64_t t = 1; t <= 3; ++t) {
        grad.randomise(t);
        isa.run(MuonMomentum{grad, momentum, out, beta, scale});
        double squares = 0;
        for (int64_t i = 0; i < R * C; ++i) {
          const size_t k = size_t(i);
          m[k] = beta * m[k] + (1 - beta) * scale * grad.at(i);
          u[k] = beta * m[k] + (1 - beta) * scale * grad.at(i);
          squares += u[k] * u[k];
          ASSERT_TRUE(near_value(momentum.at(i), m[k], acc, std::fabs(m[k]) + std::fabs(grad.at(i)), double(4 * t)));
        }
        // An element's own rounding and, of the norm, that of a sum of up to 1024 squares a block.
        const double norm = std::sqrt(squares);
        for (int64_t i = 0; i < R * C; ++i)
          ASSERT_TRUE(near_value(out.at(i), u[size_t(i)] / norm, dtype,
                                 (std::fabs(u[size_t(i)]) + std::fabs(grad.at(i))) / norm, 40));
      }
      EXPECT_TRUE(momentum.untouched() && out.untouched());
    }
  });
}

TEST(Optimizer, MuonOfNoGradientStandsStill) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    TestBuffer grad(accumulator_of(dtype), 5, 9), momentum = grad, out(dtype, 5, 9);
    out.randomise(1);
    isa.run(MuonMomentum{grad, momentum, out, 0.95, 1});
    for (int64_t i = 0; i < out.size(); ++i) EXPECT_EQ(out.at(i), 0);
    grad.set(7, NAN);
    isa.run(MuonMomentum{grad, momentum, out, 0.95, 1});
    EXPECT_TRUE(std::isnan(out.at(0)) && std::isnan(out.at(44)));
  });
}

TEST(Optimizer, MatrixSum) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    for (int64_t n : {1, 7, 64, 130})
      for (int in_place : {0, 1, 2}) {
        TestBuffer x(dtype, n, n), y(dtype, n, n), out(dtype, n, n);
        x.randomise(1), y.randomise(2);
        const TestBuffer before_x = x, before_y = y;
        const TestBuffer& to = in_place == 0 ? out : in_place == 1 ? x : y;
        isa.run(MatrixSum{to, x, y, 3, -2, 0.5});
        for (int64_t i = 0; i < n * n; ++i) {
          const double a = i / n == i % n ? 3 : 0, b = -2 * before_x.at(i), c = 0.5 * before_y.at(i);
          ASSERT_TRUE(near_value(to.at(i), a + b + c, dtype, a + std::fabs(b) + std::fabs(c), 4));
        }
        EXPECT_TRUE(to.untouched());
      }
  });
}

TEST(Optimizer, SumsAreAccurate) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    for (int64_t n : {1, 17, 1023, 1025, 300001}) {
      TestBuffer x(dtype, Shape{n});
      x.randomise(1);
      long double sum = 0, squares = 0, size = 0;
      for (int64_t i = 0; i < n; ++i) sum += x.at(i), squares += x.at(i) * x.at(i), size += std::fabs(x.at(i));
      const double rounding = rounding_of(accumulator_of(dtype));
      EXPECT_NEAR(isa.run(Sum{x}), double(sum), 8 * rounding * double(size));
      EXPECT_NEAR(isa.run(SumOfSquares{x}), double(squares), 8 * rounding * double(squares));
    }
  });
}

TEST(Optimizer, SumsPassNanOn) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    for (int64_t place : {0, 1500, 5000}) {
      TestBuffer x(dtype, Shape{5001});
      x.set(place, NAN);
      EXPECT_TRUE(std::isnan(isa.run(Sum{x})));
      EXPECT_TRUE(std::isnan(isa.run(SumOfSquares{x})));
    }
  });
}

TEST(Optimizer, SumsOfNothingAreZero) {
  for (const IsaKernels* isa : available_isas()) {
    float unused = 1;
    EXPECT_EQ(isa->run(Sum{Tensor(&unused, DType::kF32, Shape{0})}), 0);
  }
}

TEST(Optimizer, SameBitsWithAnyThreads) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    TestBuffer x(dtype, Shape{100003});
    x.randomise(1);
    expect_same_with_any_threads([&] { return std::make_pair(isa.run(Sum{x}), isa.run(SumOfSquares{x})); });
    expect_same_with_any_threads([&] {
      State s(accumulator_of(dtype), 30001);
      s.g.randomise(2);
      isa.run(AdamWUpdate{s.range(0.1, true), {1e-3, 0.9, 0.999, 1e-8, 1, 1}});
      return std::vector<TestBuffer>{s.p, s.m, s.v, s.copy};
    });
    expect_same_with_any_threads([&] {
      TestBuffer grad(accumulator_of(dtype), 301, 129), momentum = grad, out(dtype, 301, 129);
      grad.randomise(1);
      isa.run(MuonMomentum{grad, momentum, out, 0.95, 1});
      return std::vector<TestBuffer>{momentum, out};
    });
  });
}

}  // namespace
}  // namespace sluice
