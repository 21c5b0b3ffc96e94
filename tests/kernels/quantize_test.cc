// Simulated quantization against PyTorch's formula in plain scalars, which it equals bit for bit, and ranges of rows.
#include "base/error.h"
#include "kernels/device_parity.h"

namespace sluice {
namespace {

const std::vector<std::pair<int64_t, int64_t>> kShapes = {{1, 1}, {3, 7}, {5, 64}, {37, 33}, {2, 4099}, {130, 129}};

// zero + round(x / scale), clamped to [0, levels], as a value again; in the arithmetic of T.
template <class T>
double by_definition(double x, double scale, double zero, double levels) {
  const T steps = std::nearbyint(T(x) * (T(1) / T(scale)));
  return double(T(scale) * T(std::min(std::max(zero + double(steps), 0.0), levels) - zero));
}

double by_definition(DType act, double x, double scale, double zero, double levels) {
  if (act == DType::kF64) return by_definition<double>(x, scale, zero, levels);
  const double value = by_definition<float>(x, scale, zero, levels);
  return act == DType::kBF16 ? double(to_float(to_bf16(float(value)))) : value;
}

// Scales of which neither they nor their inverses are powers of two, and one that is, where halves are met exactly.
const double kScales[] = {0.0173, 0.25, 0.0001};

TEST(Quantize, EqualsTheDefinitionBitForBit) {
  for_kernels([](const IsaKernels& isa, DType act) {
    for (auto [N, C] : kShapes)
      for (int64_t gap : {0, 3})
        for (double step : kScales)
          for (auto [zero, levels] : {std::pair{128.0, 255.0}, {0.0, 15.0}, {32768.0, 65535.0}, {3.0, 3.0}}) {
            TestBuffer x(act, N, C, C + gap), out(act, N, C, C + 2 * gap), scale(accumulator_of(act), Shape{1});
            x.randomise(1, step * levels / 4);
            for (int64_t i = 0; i < x.size(); i += 5) x.set(i, (double(i % 31) - 15.5) * 0.25);
            scale.set(0, step);
            isa.run(FakeQuantize{x, out, scale, -zero, levels - zero});
            for (int64_t i = 0; i < x.size(); ++i)
              ASSERT_EQ(out.at(i), by_definition(act, x.at(i), scale.at(0), zero, levels)) << x.at(i) << " by " << step;
            EXPECT_TRUE(out.untouched());
            isa.run(FakeQuantize{x, x, scale, -zero, levels - zero});
            for (int64_t i = 0; i < x.size(); ++i) ASSERT_EQ(x.at(i), out.at(i)) << "in place";
          }
  });
}

TEST(Quantize, EveryRowMayHaveItsOwnScale) {
  for_kernels([](const IsaKernels& isa, DType act) {
    for (auto [N, C] : kShapes) {
      TestBuffer x(act, N, C), out(act, N, C), scale(accumulator_of(act), Shape{N});
      x.randomise(1);
      for (int64_t n = 0; n < N; ++n) scale.set(n, 0.01 * double(n + 1));
      isa.run(FakeQuantize{x, out, scale, -128, 127});
      for (int64_t i = 0; i < x.size(); ++i)
        ASSERT_EQ(out.at(i), by_definition(act, x.at(i), scale.at(i / C), 128, 255)) << "row " << i / C;
    }
  });
}

TEST(Quantize, HalvesGoToTheEvenNeighbourAndNonFiniteValuesAreNotHidden) {
  for_kernels([](const IsaKernels& isa, DType act) {
    const double values[] = {0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 1e30, -1e30, INFINITY, -INFINITY, NAN, 3.49};
    const double want[] = {0, 2, 2, 0, -2, -2, 10, -10, 10, -10, NAN, 3};
    TestBuffer x(act, 1, 12), out(act, 1, 12), scale(accumulator_of(act), Shape{1});
    for (int i = 0; i < 12; ++i) x.set(i, values[i]);
    scale.set(0, 1);
    isa.run(FakeQuantize{x, out, scale, -10, 10});
    for (int i = 0; i < 12; ++i)
      if (std::isnan(want[i])) EXPECT_TRUE(std::isnan(out.at(i)));
      else EXPECT_EQ(out.at(i), want[i]) << values[i];
  });
}

TEST(Quantize, RangesOfRows) {
  for_kernels([](const IsaKernels& isa, DType act) {
    for (auto [N, C] : kShapes)
      for (int64_t gap : {0, 3})
        for (double sign : {1.0, -1.0}) {  // a row of one sign: lanes beyond its end must not count as 0
          TestBuffer x(act, N, C, C + gap), out(accumulator_of(act), N, 2);
          x.randomise(1);
          for (int64_t i = 0; i < x.size(); ++i) x.set(i, sign * (std::fabs(x.at(i)) + 1));
          isa.run(RowRanges{out, x});
          for (int64_t n = 0; n < N; ++n) {
            double low = x.at(n, 0), high = low;
            for (int64_t c = 0; c < C; ++c) low = std::min(low, x.at(n, c)), high = std::max(high, x.at(n, c));
            ASSERT_EQ(out.at(n, 0), low);
            ASSERT_EQ(out.at(n, 1), high);
          }
          EXPECT_TRUE(out.untouched());
        }
  });
}

TEST(Quantize, ANonFiniteElementSpoilsItsRowsRangeAndNoOther) {
  for_kernels([](const IsaKernels& isa, DType act) {
    for (double bad : {double(NAN), double(INFINITY), -double(INFINITY)})
      for (int64_t place : {0, 20, 36}) {
        TestBuffer x(act, 3, 37), out(accumulator_of(act), 3, 2);
        x.randomise(1);
        x.set(37 + place, bad);
        isa.run(RowRanges{out, x});
        EXPECT_TRUE(std::isnan(out.at(1, 0)) && std::isnan(out.at(1, 1)));
        for (int64_t n : {0, 2}) EXPECT_TRUE(std::isfinite(out.at(n, 0)) && std::isfinite(out.at(n, 1)));
      }
  });
}

TEST(Quantize, WrongArgumentsAreBugsThatAreNamed) {
  TestBuffer x(DType::kF32, 4, 5), out(DType::kF32, 4, 5), ranges(DType::kF32, 4, 2), scale(DType::kF32, Shape{1});
  Backend& backend = cpu_backend();
  EXPECT_THROW(backend.run(FakeQuantize{x, out, TestBuffer(DType::kF32, Shape{3}), -1, 1}), std::logic_error);
  EXPECT_THROW(backend.run(FakeQuantize{x, out, {}, -1, 1}), std::logic_error);
  EXPECT_THROW(backend.run(FakeQuantize{x, TestBuffer(DType::kF32, 5, 4), scale, -1, 1}), std::logic_error);
  EXPECT_THROW(backend.run(FakeQuantize{x, out, scale, 1, 2}), std::logic_error);
  EXPECT_THROW(backend.run(FakeQuantize{x, out, scale, 0, 0x1p21}), std::logic_error);
  EXPECT_THROW(backend.run(RowRanges{TestBuffer(DType::kF32, 4, 3), x}), std::logic_error);
}

// The device's arithmetic is the same, product by product: no slack.
TEST(CudaParity, FakeQuantize) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType act) {
    for (auto [N, C] : kShapes)
      for (int64_t gap : {0, 3, 8})
        for (bool per_row : {false, true}) {
          TestBuffer x(act, N, C, C + gap), out(act, N, C, C + 2 * gap), scale(DType::kF32, Shape{per_row ? N : 1});
          x.randomise(1);
          for (int64_t i = 0; i < x.size(); i += 7) x.set(i, 0.125 * double(i % 13));
          if (x.size() > 3) x.set(2, NAN), x.set(3, -INFINITY);
          for (int64_t n = 0; n < scale.size(); ++n) scale.set(n, n % 2 ? 0.25 : 0.0173);
          expect_parity(
              {x, out, scale},
              [](Backend& b, const Tensors& t) {
                b.run(FakeQuantize{t[0], t[1], t[2], -5, 250});
                b.run(FakeQuantize{t[0], t[0], t[2], -7, 7});
              },
              0);
        }
  });
}

TEST(CudaParity, RowRanges) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType act) {
    for (auto [N, C] : kShapes)
      for (int64_t gap : {0, 3, 8}) {
        TestBuffer x(act, N, C, C + gap), out(DType::kF32, N, 2);
        x.randomise(1);
        for (int64_t i = 0; i < x.size(); ++i) x.set(i, std::fabs(x.at(i)) + 1);
        if (N > 4) x.set(C + C / 2, NAN), x.set(2 * C, INFINITY);
        expect_parity(
            {x, out},
            [](Backend& b, const Tensors& t) {
              b.run(RowRanges{t[1], t[0]});
            },
            0);
      }
  });
}

}  // namespace
}  // namespace sluice
