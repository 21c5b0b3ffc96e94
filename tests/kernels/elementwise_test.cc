// Addition, conversion, activations, gates and group norms against plain loops in double.
#include "kernels/test_buffer.h"

namespace sluice {
namespace {

// Rows, columns: single elements, odd tails, whole registers, more than one span, more than the parallel threshold.
const std::vector<std::pair<int64_t, int64_t>> kShapes = {{1, 1}, {3, 7}, {5, 64}, {37, 33}, {2, 4099}, {130, 129}};

double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double relu(double x) { return x > 0 ? x : 0; }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The standard normal distribution's integral.
double normal(double x) { return 0.5 * std::erfc(-x * M_SQRT1_2); }

double activation(Activation kind, double x) {
  if (kind == Activation::kGeluErf) return x * normal(x);
  if (kind == Activation::kSilu) return x * sigmoid(x);
  return kind == Activation::kGelu ? gelu(x) : kind == Activation::kRelu ? relu(x) : relu(x) * relu(x);
}
double activation_slope(Activation kind, double x) {
  if (kind == Activation::kRelu) return x > 0 ? 1 : 0;
  if (kind == Activation::kReluSquared) return 2 * relu(x);
  if (kind == Activation::kSilu) return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
  if (kind == Activation::kGeluErf) return normal(x) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI);
  const double k = std::sqrt(2 / M_PI), t = std::tanh(k * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x);
}

TEST(Elementwise, CopyConvertsBetweenAllTypes) {
  for_kernels([](const IsaKernels& isa, DType from) {
    for (DType to : kActivationTypes)
      for (int64_t gap : {0, 5}) {
        TestBuffer x(from, 19, 67, 67 + gap), out(to, 19, 67, 67 + gap);
        x.randomise(1);
        isa.run(Copy{out, x});
        for (int64_t i = 0; i < x.size(); ++i) {
          TestBuffer rounded(to, 1, 1);
          rounded.set(0, x.at(i));
          ASSERT_EQ(out.at(i), rounded.at(0)) << name_of(to);
        }
        EXPECT_TRUE(out.untouched());
      }
  });
}

TEST(Elementwise, Bf16RoundsToNearestEvenAndKeepsNonFinite) {
  for (const IsaKernels* isa : available_isas()) {
    TestBuffer x(DType::kF32, 1, 16), out(DType::kBF16, 1, 16);
    const double values[] = {1 + 0x1p-8, 1 + 3 * 0x1p-8, 1 + 0x1p-8 + 0x1p-20, NAN, INFINITY, -INFINITY, 3.4e38, -0.0};
    for (int i = 0; i < 8; ++i) x.set(i, values[i]);
    isa->run(Copy{out, x});
    EXPECT_EQ(out.at(0), 1.0);
    EXPECT_EQ(out.at(1), 1 + 0x1p-6);
    EXPECT_EQ(out.at(2), 1 + 0x1p-7);
    EXPECT_TRUE(std::isnan(out.at(3)));
    EXPECT_EQ(out.at(4), INFINITY);
    EXPECT_EQ(out.at(5), -INFINITY);
    EXPECT_EQ(out.at(6), INFINITY);
    EXPECT_TRUE(std::signbit(out.at(7)));
  }
}

TEST(Elementwise, ActivationsAndTheirGradients) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    for (Activation kind : kActivations)
      for (auto [N, C] : kShapes)
        for (bool again : {false, true}) {
          TestBuffer x(dtype, N, C), out(dtype, N, C), d_out(dtype, N, C), d_x(dtype, N, C), out2(dtype, N, C);
          x.randomise(1, 2), d_out.randomise(2);
          isa.run(ActivationForward{kind, out, x});
          isa.run(ActivationBackward{kind, d_x, d_out, x, again ? out2.tensor() : Tensor{}});
          for (int64_t i = 0; i < x.size(); ++i) {
            const double magnitude = 1 + std::fabs(x.at(i)), d = d_out.at(i);
            ASSERT_TRUE(near_value(out.at(i), activation(kind, x.at(i)), dtype, magnitude * magnitude, 8)) << x.at(i);
            ASSERT_TRUE(near_value(d_x.at(i), d * activation_slope(kind, x.at(i)), dtype,
                                   magnitude * magnitude * std::fabs(d), 16))
                << x.at(i);
          }
          EXPECT_TRUE(!again || out2 == out);
          EXPECT_TRUE(out.untouched() && d_x.untouched() && out2.untouched());
        }
  });
}

TEST(Elementwise, ActivationsWorkInPlaceAndOnSlices) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    TestBuffer x(dtype, 9, 21, 40), d_out(dtype, 9, 21, 30), d_x(dtype, 9, 21), out(dtype, 9, 21);
    x.randomise(1), d_out.randomise(2);
    isa.run(ActivationBackward{Activation::kGelu, d_x, d_out, x, out});
    isa.run(ActivationBackward{Activation::kGelu, d_out, d_out, x, x});
    for (int64_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(d_out.at(i), d_x.at(i));
      EXPECT_EQ(x.at(i), out.at(i));
    }
    EXPECT_TRUE(x.untouched() && d_out.untouched());
  });
}

TEST(Elementwise, ActivationsAtTheEnds) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    TestBuffer x(dtype, 1, 4), out(dtype, 1, 4), d(dtype, 1, 4);
    const double values[] = {NAN, 100, -100, 0};
    for (Activation kind : kActivations) {
      for (int i = 0; i < 4; ++i) x.set(i, values[i]), d.set(i, 1);
      isa.run(ActivationForward{kind, out, x});
      isa.run(ActivationBackward{kind, d, d, x, {}});
      EXPECT_TRUE(std::isnan(out.at(0)));
      const bool squared = kind == Activation::kReluSquared;
      TestBuffer large(dtype, 1, 1);
      large.set(0, squared ? 100 * 100 : 100);
      EXPECT_EQ(out.at(1), large.at(0));
      const double sigmoid_there = kind == Activation::kSilu ? 1e-40 : 0;  // of double; all others underflow
      EXPECT_NEAR(out.at(2), 0, sigmoid_there);
      EXPECT_EQ(out.at(3), 0);
      EXPECT_EQ(d.at(1), squared ? 200 : 1);
      EXPECT_NEAR(d.at(2), 0, sigmoid_there);
      const bool halved = kind == Activation::kGelu || kind == Activation::kGeluErf || kind == Activation::kSilu;
      EXPECT_NEAR(d.at(3), halved ? 0.5 : 0, kind == Activation::kGeluErf ? 1e-7 : 0);
    }
  });
}

// From one end to the other, where rounding of the argument's square would show; the series for double is exact to
// rounding.
TEST(Elementwise, GeluErfAllAlongTheLine) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    constexpr int64_t kPoints = 4001;
    TestBuffer x(dtype, 1, kPoints), out(dtype, 1, kPoints);
    for (int64_t i = 0; i < kPoints; ++i) x.set(i, double(i - kPoints / 2) / 200);
    isa.run(ActivationForward{Activation::kGeluErf, out, x});
    const double bound = dtype == DType::kF64 ? 1e-15 : dtype == DType::kF32 ? 2e-7 : 0x1p-8;
    for (int64_t i = 0; i < kPoints; ++i) {
      const double expected = activation(Activation::kGeluErf, x.at(i));
      ASSERT_NEAR(out.at(i), expected, bound * (0.5 + std::fabs(expected))) << x.at(i);
    }
  });
}

// silu(gate) up, and the gradients of both; the magnitudes are those of the factors.
TEST(Elementwise, SwigluAndItsGradients) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    for (auto [N, F] : kShapes) {
      TestBuffer x(dtype, N, 2 * F, 2 * F + 5), d_out(dtype, N, F, F + 3), out(dtype, N, F), again(dtype, N, F, F + 1);
      TestBuffer d_x(dtype, N, 2 * F);
      x.randomise(1, 2), d_out.randomise(2);
      isa.run(SwigluForward{out, x});
      isa.run(SwigluBackward{d_x, d_out, x, again});
      for (int64_t n = 0; n < N; ++n)
        for (int64_t i = 0; i < F; ++i) {
          const double g = x.at(n, i), u = x.at(n, F + i), s = sigmoid(g), d = d_out.at(n, i);
          const double d_gate = d * u * s * (1 + g * (1 - s)), size = std::fabs(d * u) * (1 + std::fabs(g));
          ASSERT_TRUE(near_value(out.at(n, i), g * s * u, dtype, std::fabs(g * u), 8));
          ASSERT_EQ(again.at(n, i), out.at(n, i));
          ASSERT_TRUE(near_value(d_x.at(n, i), d_gate, dtype, size, 12));
          ASSERT_TRUE(near_value(d_x.at(n, F + i), d * g * s, dtype, std::fabs(d * g), 8));
        }
      EXPECT_TRUE(out.untouched() && again.untouched() && d_x.untouched());
      TestBuffer in_place = x, d = d_out;
      isa.run(SwigluBackward{in_place, d, in_place, d});
      for (int64_t i = 0; i < d_x.size(); ++i) ASSERT_EQ(in_place.at(i), d_x.at(i));
      for (int64_t i = 0; i < d.size(); ++i) ASSERT_EQ(d.at(i), out.at(i));
      EXPECT_TRUE(in_place.untouched() && d.untouched());
    }
  });
}

TEST(Elementwise, SwigluGradientIsTheSlope) {
  for (const IsaKernels* isa : available_isas()) {
    TestBuffer x(DType::kF64, 3, 14), out(DType::kF64, 3, 7), d_out(DType::kF64, 3, 7), d_x(DType::kF64, 3, 14);
    x.randomise(1, 2), d_out.randomise(2);
    isa->run(SwigluBackward{d_x, d_out, x, {}});
    const auto loss = [&] {
      isa->run(SwigluForward{out, x});
      double total = 0;
      for (int64_t i = 0; i < out.size(); ++i) total += out.at(i) * d_out.at(i);
      return total;
    };
    for (int64_t i = 0; i < x.size(); ++i) EXPECT_NEAR(d_x.at(i), slope(x, i, loss), 1e-8);
  }
}

struct GateCase {
  GateGrain grain;
  int64_t N, H, D;
  GateActivation activation = GateActivation::kSigmoid;
  int64_t logits() const { return grain == GateGrain::kHead ? H : H * D; }
  int64_t logit_of(int64_t c) const { return grain == GateGrain::kHead ? c / D : c; }
};
const GateCase kGates[] = {{GateGrain::kHead, 1, 1, 1},
                           {GateGrain::kHead, 5, 3, 17},
                           {GateGrain::kHead, 140, 4, 64},
                           {GateGrain::kElement, 1, 1, 1},
                           {GateGrain::kElement, 6, 3, 7},
                           {GateGrain::kElement, 90, 2, 96},
                           {GateGrain::kHead, 5, 3, 17, GateActivation::kNone},
                           {GateGrain::kElement, 6, 3, 7, GateActivation::kNone}};

TEST(Elementwise, GatesAndTheirGradients) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    for (const GateCase& c : kGates) {
      const int64_t C = c.H * c.D;
      TestBuffer x(dtype, c.N, C, C + 5), logits(dtype, c.N, c.logits(), c.logits() + 1), out(dtype, c.N, C, C + 2);
      TestBuffer d_out(dtype, c.N, C, C + 3), d_x(dtype, c.N, C, C + 9),
          d_logits(dtype, c.N, c.logits(), c.logits() + 4);
      x.randomise(1), logits.randomise(2, 2), d_out.randomise(3);
      const GateForward forward{c.grain, c.H, x, logits, out, c.activation};
      const bool plain = c.activation == GateActivation::kNone;
      isa.run(forward);
      isa.run(GateBackward{forward, d_out, d_x, d_logits});
      for (int64_t n = 0; n < c.N; ++n) {
        std::vector<double> want(size_t(c.logits()), 0.0), size(size_t(c.logits()), 0.0);
        for (int64_t i = 0; i < C; ++i) {
          const int64_t l = c.logit_of(i);
          const double g = plain ? logits.at(n, l) : sigmoid(logits.at(n, l)), d = d_out.at(n, i);
          const double most = std::max(1.0, std::fabs(g));
          ASSERT_TRUE(near_value(out.at(n, i), g * x.at(n, i), dtype, most * std::fabs(x.at(n, i)), 8));
          ASSERT_TRUE(near_value(d_x.at(n, i), g * d, dtype, most * std::fabs(d), 8));
          want[size_t(l)] += (plain ? 1 : g * (1 - g)) * d * x.at(n, i);
          size[size_t(l)] += std::fabs(d * x.at(n, i));
        }
        for (int64_t l = 0; l < c.logits(); ++l)
          ASSERT_TRUE(near_value(d_logits.at(n, l), want[size_t(l)], dtype, size[size_t(l)], 8 + double(c.D)));
      }
      EXPECT_TRUE(out.untouched() && d_x.untouched() && d_logits.untouched());
    }
  });
}

TEST(Elementwise, GateGradientIsTheSlope) {
  for (const IsaKernels* isa : available_isas())
    for (const auto& [grain, activation] : {std::pair(GateGrain::kHead, GateActivation::kSigmoid),
                                            std::pair(GateGrain::kElement, GateActivation::kSigmoid),
                                            std::pair(GateGrain::kElement, GateActivation::kNone)}) {
      const GateCase c{grain, 3, 2, 5, activation};
      TestBuffer x(DType::kF64, c.N, 10), logits(DType::kF64, c.N, c.logits()), out(DType::kF64, c.N, 10);
      TestBuffer d_out(DType::kF64, c.N, 10), d_x(DType::kF64, c.N, 10), d_logits(DType::kF64, c.N, c.logits());
      x.randomise(1), logits.randomise(2), d_out.randomise(3);
      const GateForward forward{grain, c.H, x, logits, out, activation};
      isa->run(GateBackward{forward, d_out, d_x, d_logits});
      const auto loss = [&] {
        isa->run(forward);
        double total = 0;
        for (int64_t i = 0; i < out.size(); ++i) total += out.at(i) * d_out.at(i);
        return total;
      };
      for (int64_t i = 0; i < x.size(); ++i) EXPECT_NEAR(d_x.at(i), slope(x, i, loss), 1e-9);
      for (int64_t i = 0; i < logits.size(); ++i) EXPECT_NEAR(d_logits.at(i), slope(logits, i, loss), 1e-9);
    }
}

TEST(Elementwise, ActivationGradientIsTheSlope) {
  for (const IsaKernels* isa : available_isas())
    for (Activation kind : kActivations) {
      TestBuffer x(DType::kF64, 1, 37), out(DType::kF64, 1, 37), d(DType::kF64, 1, 37);
      x.randomise(1, 2);
      for (int64_t i = 0; i < x.size(); ++i) d.set(i, 1);
      isa->run(ActivationBackward{kind, d, d, x, {}});
      for (int64_t i = 0; i < x.size(); ++i)
        EXPECT_NEAR(d.at(i),
                    slope(x, i,
                          [&] {
                            isa->run(ActivationForward{kind, out, x});
                            return out.at(i);
                          }),
                    1e-8);
    }
}

TEST(Elementwise, GroupNorms) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    const DType acc = accumulator_of(dtype);
    const int64_t cases[][3] = {{1, 1, 1}, {5, 3, 7}, {300, 2, 64}};
    for (auto [N, G, D] : cases) {
      TestBuffer x(dtype, N, G * D, G * D + 3), out(acc, N, G);
      x.randomise(1);
      isa.run(GroupNorms{out, x, G});
      for (int64_t n = 0; n < N; ++n)
        for (int64_t g = 0; g < G; ++g) {
          double squares = 0;
          for (int64_t i = 0; i < D; ++i) squares += x.at(n, g * D + i) * x.at(n, g * D + i);
          ASSERT_TRUE(near_value(out.at(n, g), std::sqrt(squares), acc, std::sqrt(squares), 4 + std::sqrt(double(D))));
        }
      EXPECT_TRUE(out.untouched());
    }
  });
}

}  // namespace
}  // namespace sluice
