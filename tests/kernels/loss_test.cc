// Cross-entropy and its gradient against plain loops in double and finite differences.
#include "kernels/test_buffer.h"

namespace sluice {
namespace {

struct LossCase {
  TestBuffer logits, losses, targets;
  LossCase(DType dtype, int64_t N, int64_t V, double scale = 3)
      : logits(dtype, N, V, V + 3), losses(accumulator_of(dtype), Shape{N}), targets(DType::kI32, Shape{N}) {
    logits.randomise(1, scale);
    targets.randomise_indices(2, V);
  }
  void run(const IsaKernels& isa, double grad_scale) { isa.run(CrossEntropy{losses, logits, targets, grad_scale}); }
};

struct Row {
  double most = -INFINITY, total = 0, size = 0;
};
Row softmax_of(const TestBuffer& logits, int64_t n) {
  Row row;
  const int64_t V = logits.tensor().cols();
  for (int64_t v = 0; v < V; ++v) row.most = std::max(row.most, logits.at(n, v));
  for (int64_t v = 0; v < V; ++v) {
    row.total += std::exp(logits.at(n, v) - row.most);
    row.size = std::max(row.size, std::fabs(logits.at(n, v)));
  }
  return row;
}

TEST(Loss, LossAndGradient) {
  const std::pair<int64_t, int64_t> shapes[] = {{1, 1}, {5, 2}, {300, 67}, {3, 2048}, {4, 2049}, {5, 5003}};
  for_kernels([&](const IsaKernels& isa, DType dtype) {
    for (auto [N, V] : shapes)
      for (double grad_scale : {0.0, 0.25}) {
        LossCase t(dtype, N, V);
        if (N > 2) t.targets.set(1, -1);
        const TestBuffer before = t.logits;
        t.run(isa, grad_scale);
        for (int64_t n = 0; n < N; ++n) {
          const int64_t target = int64_t(t.targets.at(n));
          const Row row = softmax_of(before, n);
          const double loss = target < 0 ? 0 : std::log(row.total) + row.most - before.at(n, target);
          ASSERT_TRUE(near_value(t.losses.at(n), loss, accumulator_of(dtype), 1 + row.size, 8)) << V;
          if (grad_scale == 0) continue;
          for (int64_t v = 0; v < V; ++v) {
            const double p = std::exp(before.at(n, v) - row.most) / row.total;
            const double d = target < 0 ? 0 : (p - (v == target ? 1 : 0)) * grad_scale;
            ASSERT_TRUE(near_value(t.logits.at(n, v), d, dtype, (p + (v == target)) * grad_scale, 16 + 2 * row.size));
          }
        }
        EXPECT_TRUE(grad_scale != 0 || t.logits == before);
        EXPECT_TRUE(t.logits.untouched() && t.losses.untouched());
      }
  });
}

TEST(Loss, GradientIsTheSlope) {
  for (const IsaKernels* isa : available_isas()) {
    LossCase t(DType::kF64, 3, 21), gradient(DType::kF64, 3, 21);
    gradient.run(*isa, 2);
    const auto loss = [&] {
      t.run(*isa, 0);
      return 2 * (t.losses.at(0) + t.losses.at(1) + t.losses.at(2));
    };
    for (int64_t i = 0; i < t.logits.size(); ++i) EXPECT_NEAR(gradient.logits.at(i), slope(t.logits, i, loss), 1e-8);
  }
}

TEST(Loss, ExtremeLogits) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    // A whole block of -inf first, then a rising maximum over several blocks.
    LossCase t(dtype, 2, 7000);
    for (int64_t v = 0; v < 7000; ++v) {
      t.logits.set(v, v < 3000 ? -INFINITY : double(v / 1000));
      t.logits.set(7000 + v, v == 6999 ? 30000 : -30000);
    }
    t.targets.set(0, 6999), t.targets.set(1, 0);
    t.run(isa, 1);
    const double want = std::log(1000 * (1 + std::exp(-1) + std::exp(-2) + std::exp(-3)));
    EXPECT_NEAR(t.losses.at(0), want, 1e-5);
    EXPECT_EQ(t.logits.at(0), 0);
    EXPECT_NEAR(t.losses.at(1), 60000, 300);
    EXPECT_NEAR(t.logits.at(1, 0), -1, 1e-6);
    EXPECT_NEAR(t.logits.at(1, 6999), 1, 1e-6);
  });
}

TEST(Loss, ANanReachesTheLossAndTheGradient) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    for (int64_t place : {0, 1, 2047, 2048, 4999}) {
      LossCase t(dtype, 2, 5000);
      t.logits.set(place, NAN);
      t.run(isa, 1);
      EXPECT_TRUE(std::isnan(t.losses.at(0)));
      EXPECT_TRUE(std::isnan(t.logits.at(0, 77)));
      EXPECT_FALSE(std::isnan(t.losses.at(1)));
    }
    LossCase infinite(dtype, 1, 40);
    infinite.logits.set(3, INFINITY);
    infinite.run(isa, 1);
    EXPECT_TRUE(std::isnan(infinite.losses.at(0)));
  });
}

TEST(Loss, SameBitsWithAnyThreads) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    expect_same_with_any_threads([&] {
      LossCase t(dtype, 33, 999);
      t.run(isa, 0.5);
      return std::vector<TestBuffer>{t.logits, t.losses};
    });
  });
}

TEST(Loss, ATargetBeyondTheVocabularyIsRefused) {
  LossCase t(DType::kF32, 4, 10);
  t.targets.set(2, 10);
  const auto backend = make_cpu_backend();
  EXPECT_THROW(backend->run(CrossEntropy{t.losses, t.logits, t.targets, 1}), std::logic_error);
}

}  // namespace
}  // namespace sluice
