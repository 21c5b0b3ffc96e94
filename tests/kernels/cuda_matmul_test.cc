// Matrix products of the CUDA backend against the CPU backend: transpositions, slices, accumulation, biases,
// activations, fused and not. With the emulated device the products themselves are the CPU's: what is tested there is
// how they are described to cuBLASLt, and what is done when it refuses.
#include "kernels/device_parity.h"

#if !SLUICE_WITH_CUDA
#include "cuda_emulation/cublasLt.h"
#endif

namespace sluice {
namespace {

struct Sizes {
  int64_t M, N, K;
};
const Sizes kSizes[] = {{1, 1, 1}, {3, 5, 7}, {1, 72, 64}, {65, 20, 33}, {17, 64, 130}};

struct Types {
  DType act, out;
};
const Types kTypes[] = {{DType::kF32, DType::kF32}, {DType::kBF16, DType::kBF16}, {DType::kBF16, DType::kF32}};

struct Choice {
  bool transpose_a, transpose_b, accumulate, bias;
  bool activated;
  Activation activation;
};

TestBuffer operand(DType type, int64_t rows, int64_t cols, bool transposed, int64_t gap) {
  if (transposed) std::swap(rows, cols);
  return TestBuffer(type, rows, cols, cols + gap);
}

// K products of size 1 and more, each with two roundings. A fused bias is rounded to the type of the result, and a
// fused activation is taken of the sum before it was rounded: in bf16, 2^-9 of values up to 4 sqrt(K) + 4.
double slack(const Types& types, const Sizes& sizes, const Choice& choice) {
  const double size = 4 * std::sqrt(double(sizes.K)) + 4;
  const bool rounded = types.out == DType::kBF16 && (choice.bias || choice.activated);
  return 8 * double(sizes.K + 2) + (rounded ? 2 * size * 0x1p24 * 0x1p-8 : 0) + 20 * size;
}

void expect_product(const Types& types, const Sizes& sizes, const Choice& choice, int64_t gap) {
  const auto [M, N, K] = sizes;
  SCOPED_TRACE(
      fmt::format("{} into {}, M {} N {} K {}, transpose a {} b {}, accumulate {}, bias {}, activated {} {}, gap {}",
                  name_of(types.act), name_of(types.out), M, N, K, choice.transpose_a, choice.transpose_b,
                  choice.accumulate, choice.bias, choice.activated, int(choice.activation), gap));
  TestBuffer a = operand(types.act, M, K, choice.transpose_a, gap),
             b = operand(types.act, K, N, choice.transpose_b, gap);
  TestBuffer bias(DType::kF32, Shape{N}), out(types.out, M, N, N + gap), activated(types.out, M, N, N + 2 * gap);
  a.randomise(1), b.randomise(2), bias.randomise(3);
  for (int64_t i = 0; i < out.size(); ++i) out.set(i, NAN);  // what was there may be anything
  if (choice.accumulate) out.randomise(4);
  expect_parity(
      {out, activated, a, b, bias},
      [&](Backend& backend, const Tensors& t) {
        Matmul args{.out = t[0],
                    .a = t[2],
                    .b = t[3],
                    .transpose_a = choice.transpose_a,
                    .transpose_b = choice.transpose_b,
                    .accumulate = choice.accumulate,
                    .activation = choice.activation};
        if (choice.bias) args.bias = t[4];
        if (choice.activated) args.activated = t[1];
        backend.run(args);
      },
      slack(types, sizes, choice));
}

void expect_all_products() {
  for (const Types& types : kTypes)
    for (const Sizes& sizes : kSizes)
      for (int flags = 0; flags < 64; ++flags) {
        const bool activated = flags & 16, gelu = flags & 32;
        if ((gelu && !activated) || flags % 3 != sizes.K % 3) continue;  // a third of the choices for each size
        expect_product(types, sizes,
                       {bool(flags & 1), bool(flags & 2), bool(flags & 4), bool(flags & 8), activated,
                        gelu ? Activation::kGelu : Activation::kRelu},
                       flags % 3 == 0   ? 0
                       : flags % 3 == 1 ? 3
                                        : 8);
      }
}

TEST(CudaMatmul, IsTheCpusProduct) {
  SLUICE_SKIP_WITHOUT_CUDA();
  expect_all_products();
}

// The three products of a gate that reads each head's own slice: its logits, its part of d_x, its weight's gradient.
// Slices of several rows that are not side by side, so that a wrong step between the heads shows.
TEST(CudaMatmul, HeadsHaveProductsOfTheirOwn) {
  SLUICE_SKIP_WITHOUT_CUDA();
  constexpr int64_t rows = 19, heads = 3, in = 8;
  for_device_types([](DType dtype) {
    for (int64_t out : {1, 5, 8}) {
      SCOPED_TRACE(out);
      TestBuffer x(dtype, rows, heads * in, heads * in + 7), weight(dtype, heads * out, in),
          bias(DType::kF32, Shape{heads * out}), logits(dtype, rows, heads * out, heads * out + 2),
          d_x(dtype, rows, heads * in), d_weight(DType::kF32, heads * out, in);
      x.randomise(1), weight.randomise(2), bias.randomise(3), logits.randomise(4), d_x.randomise(5),
          d_weight.randomise(6);
      const std::vector<TestBuffer> buffers{x, weight, bias, logits, d_x, d_weight};
      const auto expect_op = [&](const DeviceOp& op, bool biased = false) {
        const double size = 4 * std::sqrt(double(rows)) + 4;  // a bias is added to what was rounded, see slack()
        expect_parity(buffers, op, 20 * size + (biased && dtype == DType::kBF16 ? 2 * size * 0x1p24 * 0x1p-8 : 0));
      };
      const Tensor none;
      for (const bool biased : {false, true})
        expect_op(
            [&](Backend& on, const Tensors& t) {
              on.run(HeadMatmul{{.out = t[3], .a = t[0], .b = t[1], .transpose_b = true, .bias = biased ? t[2] : none},
                                heads});
            },
            biased);
      expect_op([](Backend& on, const Tensors& t) {
        on.run(HeadMatmul{{.out = t[4], .a = t[3], .b = t[1], .accumulate = true}, heads});
      });
      for (const bool accumulate : {false, true})
        expect_op([&](Backend& on, const Tensors& t) {
          on.run(HeadMatmul{{.out = t[5], .a = t[3], .b = t[0], .transpose_a = true, .accumulate = accumulate}, heads});
        });
    }
  });
}

#if !SLUICE_WITH_CUDA
void expect_products_without_fusion(emulation::Fusion refused) {
  emulation::refused = refused;
  const std::unique_ptr<Backend> backend = cuda_under_test();  // with no plan yet
  for (DType dtype : kDeviceTypes)
    for (Activation kind : {Activation::kRelu, Activation::kGelu}) {
      TestBuffer a(dtype, 9, 20), b(dtype, 16, 20), bias(DType::kF32, Shape{16}), out(dtype, 9, 16),
          activated(dtype, 9, 16);
      a.randomise(1), b.randomise(2), bias.randomise(3);
      const DeviceOp op = [&](Backend& on, const Tensors& t) {
        on.run(Matmul{.out = t[0],
                      .a = t[2],
                      .b = t[3],
                      .transpose_b = true,
                      .bias = t[4],
                      .activated = t[1],
                      .activation = kind});
      };
      const auto want = after(cpu_backend(), {out, activated, a, b, bias}, op);
      const auto got = after(*backend, {out, activated, a, b, bias}, op);
      // Rounded twice: the product, and the sum with the bias.
      const double bound = dtype == DType::kBF16 ? 20 * 0x1p-8 : 1e-4;
      for (int which : {0, 1})
        for (int64_t i = 0; i < out.size(); ++i)
          ASSERT_NEAR(got[size_t(which)].at(i), want[size_t(which)].at(i), bound) << which << " " << i;
    }
  TestBuffer x(DType::kF32, 9, 24), weight(DType::kF32, 6, 8), bias(DType::kF32, Shape{6}), logits(DType::kF32, 9, 6);
  x.randomise(1), weight.randomise(2), bias.randomise(3);
  const DeviceOp heads = [](Backend& on, const Tensors& t) {
    on.run(HeadMatmul{{.out = t[0], .a = t[1], .b = t[2], .transpose_b = true, .bias = t[3]}, 3});
  };
  const auto want = after(cpu_backend(), {logits, x, weight, bias}, heads);
  for (int run = 0; run < 2; ++run) {
    const auto got = after(*backend, {logits, x, weight, bias}, heads);
    for (int64_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(got[0].at(i), want[0].at(i), 1e-4) << i;
  }
  emulation::refused = emulation::Fusion::kNone;
}

TEST(CudaMatmul, WithoutFusionToo) {
  for (const auto refused : {emulation::Fusion::kAsked, emulation::Fusion::kRun})
    expect_products_without_fusion(refused);
}
#endif

TEST(CudaMatmul, NanComesThrough) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType dtype) {
    TestBuffer a(dtype, 5, 9), b(dtype, 9, 6), out(dtype, 5, 6);
    a.randomise(1), b.randomise(2);
    a.set(2 * 9 + 8, NAN);
    expect_parity(
        {out, a, b}, [](Backend& on, const Tensors& t) { on.run(Matmul{.out = t[0], .a = t[1], .b = t[2]}); }, 200);
  });
}

}  // namespace
}  // namespace sluice
