// Every op of the CUDA backend but matmul and attention (tests of their own) against the CPU backend: odd shapes,
// slices of columns at addresses that vector accesses cannot take, accumulation, non-finite values, the same bits
// twice.
#include "kernels/device_parity.h"

namespace sluice {
namespace {

// Rows, columns: one pack or less, odd tails, whole packs, more than one block.
const std::vector<std::pair<int64_t, int64_t>> kShapes = {{1, 1}, {3, 20}, {65, 64}, {2, 257}, {5, 1024}};
const int64_t kGaps[] = {0, 3, 8};  // between rows: none, unaligned, aligned

TEST(CudaParity, Fill) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF64, DType::kI32})
    for (int64_t gap : kGaps)
      for (double value : {0.0, -3.0, 1.5})
        expect_parity(
            {TestBuffer(dtype, 5, 67, 67 + gap)},
            [=](Backend& b, const Tensors& t) {
              b.run(Fill{t[0], value});
            },
            0);
}

TEST(CudaParity, CopyConverts) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for (DType from : kDeviceTypes)
    for (DType to : kDeviceTypes)
      for (auto [N, C] : kShapes)
        for (int64_t gap : kGaps) {
          TestBuffer x(from, N, C, C + gap), out(to, N, C, C + 2 * gap);
          x.randomise(1);
          x.set(0, from == to ? NAN : 1 + 0x1p-8);  // a tie
          expect_parity(
              {out, x},
              [](Backend& b, const Tensors& t) {
                b.run(Copy{t[0], t[1]});
              },
              0);
        }
}

TEST(CudaParity, RandomNumbersAreTheSameBits) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType dtype) {
    const std::vector<TestBuffer> buffers = {TestBuffer(dtype, 7, 13, 20), TestBuffer(dtype, Shape{1001})};
    const DeviceOp op = [](Backend& b, const Tensors& t) {
      b.run(RandomUniform{t[0], 5, 6, -2, 3});
      b.run(RandomNormal{t[1], 5, 7, 0.5, 0.02});
    };
    EXPECT_TRUE(after(cuda_backend(), buffers, op) == after(cpu_backend(), buffers, op));
  });
}

// e^x is off by a rounding or two on either side, and that is multiplied by |x| and |d_out|, here below 10.
TEST(CudaParity, Activations) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType dtype) {
    for (Activation kind : kActivations)
      for (auto [N, C] : kShapes)
        for (int64_t gap : kGaps) {
          TestBuffer x(dtype, N, C, C + gap), d_out(dtype, N, C, C + 2 * gap), out(dtype, N, C), d_x(dtype, N, C);
          x.randomise(1, 2), d_out.randomise(2);
          expect_parity(
              {x, out},
              [=](Backend& b, const Tensors& t) {
                b.run(ActivationForward{kind, t[1], t[0]});
              },
              100);
          expect_parity(
              {x, d_out, d_x},
              [=](Backend& b, const Tensors& t) {
                b.run(ActivationBackward{kind, t[2], t[1], t[0], {}});
              },
              400);
          expect_parity(
              {x, d_out},
              [=](Backend& b, const Tensors& t) {
                b.run(ActivationBackward{kind, t[1], t[1], t[0], t[0]});
              },
              400);
        }
  });
}

TEST(CudaParity, ActivationsAtTheEnds) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType dtype) {
    TestBuffer x(dtype, 1, 6), out(dtype, 1, 6), d(dtype, 1, 6);
    const double values[] = {NAN, 100, -100, 0, INFINITY, -1e-30};
    for (int i = 0; i < 6; ++i) x.set(i, values[i]), d.set(i, 1);
    for (Activation kind : kActivations)
      expect_parity(
          {x, out, d},
          [=](Backend& b, const Tensors& t) {
            b.run(ActivationBackward{kind, t[2], t[2], t[0], t[1]});
          },
          1);
  });
}

// Factors below 10: a few roundings of products below 100.
TEST(CudaParity, Swiglu) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType dtype) {
    for (auto [N, F] : kShapes)
      for (int64_t gap : kGaps) {
        TestBuffer x(dtype, N, 2 * F, 2 * F + gap), d_out(dtype, N, F, F + 2 * gap), out(dtype, N, F),
            d_x(dtype, N, 2 * F);
        x.randomise(1, 2), d_out.randomise(2);
        expect_parity(
            {x, out},
            [](Backend& b, const Tensors& t) {
              b.run(SwigluForward{t[1], t[0]});
            },
            1000);
        expect_parity(
            {x, d_out, d_x},
            [](Backend& b, const Tensors& t) {
              b.run(SwigluBackward{t[2], t[1], t[0], {}});
            },
            1000);
        expect_parity(
            {x, d_out},
            [](Backend& b, const Tensors& t) {
              b.run(SwigluBackward{t[0], t[1], t[0], t[1]});
            },
            1000);
      }
  });
}

// Products below 30 times the inverse deviation, itself below 30 (epsilon); sums over D columns and over all heads.
TEST(CudaParity, HeadNorms) {
  SLUICE_SKIP_WITHOUT_CUDA();
  const int64_t cases[][3] = {{1, 1, 1},   {65, 3, 20}, {9, 2, 64},  {300, 5, 8}, {3, 2, 65},
                              {3, 2, 100}, {3, 2, 128}, {3, 1, 129}, {40, 1, 256}};  // N, H, D
  for_device_types([&](DType dtype) {
    for (auto [N, H, D] : cases)
      for (int64_t gap : kGaps) {
        const int64_t C = H * D;
        TestBuffer x(dtype, N, C, C + gap), out(dtype, N, C, C + gap), d_out(dtype, N, C, C + 2 * gap),
            d_x(dtype, N, C);
        TestBuffer gain(DType::kF32, Shape{D}), d_gain = gain;
        x.randomise(1), d_out.randomise(2), gain.randomise(3), d_gain.randomise(4);
        expect_parity(
            {x, out, gain},
            [](Backend& b, const Tensors& t) {
              b.run(HeadNormForward{1e-3, t[0], t[1], t[2]});
            },
            400);
        expect_parity(
            {x, out},
            [D = D](Backend& b, const Tensors& t) {
              b.run(HeadNormForward{.epsilon = 1e-3, .x = t[0], .out = t[1], .features = D});
            },
            400);
        expect_parity(
            {x, d_out, d_x},
            [D = D](Backend& b, const Tensors& t) {
              const Arena workspace(b, size_t(b.workspace<NormBackward>({D})) * sizeof(float));
              b.run(HeadNormBackward{.forward = {.epsilon = 1e-3, .x = t[0], .out = {}, .features = D},
                                     .d_out = t[1],
                                     .d_x = t[2],
                                     .workspace = workspace.at(0, DType::kF32, {b.workspace<NormBackward>({D})})});
            },
            4000);
        for (bool in_place : {false, true})
          expect_parity(
              {x, d_out, d_x, gain, d_gain},
              [=, D = D](Backend& b, const Tensors& t) {
                const Arena workspace(b, size_t(b.workspace<NormBackward>({D})) * sizeof(float));
                b.run(HeadNormBackward{{1e-3, t[0], {}, t[3]},
                                       t[1],
                                       in_place ? t[1] : t[2],
                                       t[4],
                                       gap > 0,
                                       workspace.at(0, DType::kF32, {b.workspace<NormBackward>({D})})});
              },
              4000 + 30 * double(N * H));
      }
  });
}

TEST(CudaParity, Rope) {
  SLUICE_SKIP_WITHOUT_CUDA();
  const int64_t cases[][4] = {
      {1, 1, 1, 2}, {3, 5, 3, 6}, {2, 33, 2, 16}, {1, 70, 3, 64}, {5, 1, 2, 100}};  // B, T, H, D
  for_device_types([&](DType dtype) {
    for (auto [B, T, H, D] : cases)
      for (int64_t gap : kGaps)
        for (bool inverse : {false, true}) {
          TestBuffer x(dtype, B * T, H * D, H * D + gap), table(DType::kF32, T + 8, D);
          x.randomise(1), table.randomise(2);
          expect_parity(
              {x, table},
              [=, T = T](Backend& b, const Tensors& t) {
                b.run(Rope{.x = t[0], .table = t[1], .T = T, .first_position = gap, .inverse = inverse});
              },
              100);
        }
  });
}

// Sums over D columns of products below 10, in any order.
TEST(CudaParity, Gates) {
  SLUICE_SKIP_WITHOUT_CUDA();
  const int64_t cases[][3] = {{1, 1, 1}, {3, 3, 17}, {65, 2, 20}, {9, 4, 64}, {2, 2, 257}};  // N, H, D
  const std::pair<GateGrain, GateActivation> kinds[] = {{GateGrain::kHead, GateActivation::kSigmoid},
                                                        {GateGrain::kElement, GateActivation::kSigmoid},
                                                        {GateGrain::kHead, GateActivation::kNone},
                                                        {GateGrain::kElement, GateActivation::kNone}};
  for_device_types([&](DType dtype) {
    for (auto [N, H, D] : cases)
      for (const auto& [grain, activation] : kinds)
        for (int64_t gap : kGaps) {
          const int64_t C = H * D, G = grain == GateGrain::kHead ? H : C;
          TestBuffer x(dtype, N, C, C + gap), logits(dtype, N, G, G + gap), out(dtype, N, C, C + gap);
          TestBuffer d_out(dtype, N, C, C + gap), d_x(dtype, N, C, C + gap), d_logits(dtype, N, G, G + gap);
          x.randomise(1), logits.randomise(2, 2), d_out.randomise(3);
          const auto forward = [grain = grain, activation = activation, H = H](const Tensors& t) {
            return GateForward{grain, H, t[0], t[1], t[2], activation};
          };
          expect_parity(
              {x, logits, out}, [=](Backend& b, const Tensors& t) { b.run(forward(t)); }, 40);
          expect_parity(
              {x, logits, out, d_out, d_x, d_logits},
              [=](Backend& b, const Tensors& t) {
                b.run(GateBackward{forward(t), t[3], t[4], t[5]});
              },
              double(D) * 10 + 40);
          expect_parity(
              {x, logits, out, d_out, d_logits},
              [=](Backend& b, const Tensors& t) {
                b.run(GateBackward{forward(t), t[3], t[3], t[4]});
              },
              double(D) * 10 + 40);
        }
  });
}

TEST(CudaParity, GroupNorms) {
  SLUICE_SKIP_WITHOUT_CUDA();
  const int64_t cases[][3] = {{1, 1, 1}, {3, 3, 7}, {65, 2, 64}, {2, 3, 257}};
  for_device_types([&](DType dtype) {
    for (auto [N, G, D] : cases)
      for (int64_t gap : kGaps) {
        TestBuffer x(dtype, N, G * D, G * D + gap), out(DType::kF32, N, G, G + gap);
        x.randomise(1);
        expect_parity(
            {x, out},
            [G = G](Backend& b, const Tensors& t) {
              b.run(GroupNorms{t[1], t[0], G});
            },
            double(D));
      }
  });
}

// Values below 8 around 3; xhat and e below 10; sums over N rows or C columns.
struct NormCase {
  std::vector<TestBuffer> buffers;  // x, delta, sum, gain, bias, out, stats; d_out, d_x, d_gain, d_bias
  bool with_delta, with_bias, with_gain = true;
  Norm kind = Norm::kLayerNorm;

  NormCase(DType dtype, int64_t N, int64_t C, int64_t gap, bool with_delta, bool with_bias)
      : with_delta(with_delta), with_bias(with_bias) {
    const TestBuffer rows(dtype, N, C, C + gap), columns(DType::kF32, Shape{C});
    buffers = {rows, rows, rows, columns, columns, rows, TestBuffer(DType::kF32, N, 2), rows, rows, columns, columns};
    for (size_t i : {0, 1, 3, 4, 7, 8, 9, 10}) buffers[i].randomise(i);
    for (int64_t i = 0; i < N * C; ++i) buffers[0].set(i, buffers[0].at(i) + 3);
  }
  NormForward forward(const Tensors& t) const {
    NormForward args;
    args.kind = kind;
    args.x = t[0];
    if (with_delta) args.delta = t[1], args.sum = t[2];
    if (with_gain) args.gain = t[3];
    if (with_bias) args.bias = t[4];
    args.out = t[5];
    args.stats = t[6];
    return args;
  }
  void run(Backend& b, const Tensors& t, bool add, bool accumulate) const {
    b.run(forward(t));
    NormBackward args;
    args.forward = forward(t);
    if (with_delta) args.forward.x = t[2], args.forward.delta = args.forward.sum = {};
    args.d_out = t[7];
    args.d_x = t[8];
    args.add_to_d_x = add;
    if (with_gain) args.d_gain = t[9];
    if (with_bias) args.d_bias = t[10];
    args.accumulate = accumulate;
    const int64_t C = args.d_x.cols();
    const Arena workspace(b, size_t(b.workspace<NormBackward>({C})) * sizeof(float));
    args.workspace = workspace.at(0, DType::kF32, {b.workspace<NormBackward>({C})});
    b.run(args);
    b.run(BiasGradient{t[4], t[7], accumulate, args.workspace});
  }
};

TEST(CudaParity, Norms) {
  SLUICE_SKIP_WITHOUT_CUDA();
  // Every size of team (norm.cu), and more rows than one block or chunk takes.
  const std::pair<int64_t, int64_t> shapes[] = {{1, 2},    {65, 20},  {3, 64},    {300, 257}, {9, 768},  {65, 1000},
                                                {3, 1600}, {2, 3001}, {17, 4100}, {1, 9000},  {1, 17001}};
  for_device_types([&](DType dtype) {
    for (auto [N, C] : shapes)
      for (int flags = 0; flags < 16; ++flags) {
        if (N * C > 2000 && flags % (N * C > 5000 ? 15 : 5) != 0) continue;  // every combination on small shapes only
        SCOPED_TRACE(fmt::format("{}x{}, flags {}", N, C, flags));
        const int64_t gap = flags % 3 == 0 ? 0 : flags % 3 == 1 ? 5 : 8;
        NormCase norm(dtype, N, C, gap, flags & 1, flags & 2);
        // stats 1/sqrt(2/C)... of two columns may be 300: their slack follows the inverse deviation.
        const double slack = C < 20 ? 1e6 : 100 * (20 + double(std::max(N, int64_t(64))));
        const auto run = [&](Backend& b, const Tensors& t) { norm.run(b, t, flags & 4, flags & 8); };
        expect_parity(norm.buffers, run, slack);
        if (norm.with_bias) continue;
        norm.kind = Norm::kRmsNorm;
        expect_parity(norm.buffers, run, slack);
        norm.with_gain = false;
        expect_parity(norm.buffers, run, slack);
      }
  });
}

TEST(CudaParity, ANanSpoilsItsRowAndNoOther) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType dtype) {
    for (int64_t place : {0, 20, 32}) {
      NormCase norm(dtype, 3, 33, 0, false, true);
      norm.buffers[0].set(33 + place, NAN);
      expect_parity(
          norm.buffers, [&](Backend& b, const Tensors& t) { norm.run(b, t, true, false); }, 1e4);
    }
  });
}

TEST(CudaParity, BiasGradientOfSlices) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType dtype) {
    for (auto [N, C] : {std::pair<int64_t, int64_t>{1, 1}, {3, 1030}, {700, 20}, {65, 300}})
      for (bool accumulate : {false, true}) {
        TestBuffer d_out(dtype, N, C + 9), d_bias(DType::kF32, Shape{C});
        d_out.randomise(1), d_bias.randomise(2);
        expect_parity(
            {d_out, d_bias},
            [=, C = C](Backend& b, const Tensors& t) {
              const Arena workspace(b, size_t(b.workspace<NormBackward>({C})) * sizeof(float));
              b.run(BiasGradient{t[1], t[0].columns(5, C), accumulate,
                                 workspace.at(0, DType::kF32, {b.workspace<NormBackward>({C})})});
            },
            2.0 * double(N));
      }
  });
}

TEST(CudaParity, Losses) {
  SLUICE_SKIP_WITHOUT_CUDA();
  // Each number of threads of loss.cu.
  const std::pair<int64_t, int64_t> shapes[] = {{1, 1}, {65, 20}, {3, 257}, {5, 1024}, {3, 5003}, {2, 17001}};
  for_device_types([&](DType dtype) {
    for (auto [N, V] : shapes)
      for (int64_t gap : kGaps)
        for (double grad_scale : {0.0, 0.25}) {
          TestBuffer logits(dtype, N, V, V + gap), losses(DType::kF32, Shape{N}), targets(DType::kI32, Shape{N});
          logits.randomise(1, 3), targets.randomise_indices(2, V);
          if (N > 2) targets.set(1, -1);
          if (N > 4) logits.set(4 * V + V / 2, NAN), logits.set(2 * V, -INFINITY);
          if (N > 60) logits.set(60 * V + 3, INFINITY);
          expect_parity(
              {losses, logits, targets},
              [=](Backend& b, const Tensors& t) {
                b.run(CrossEntropy{t[0], t[1], t[2], grad_scale});
              },
              100);
        }
  });
}

TEST(CudaParity, ATargetBeyondTheVocabularyGivesANan) {
  SLUICE_SKIP_WITHOUT_CUDA();
  TestBuffer logits(DType::kF32, 2, 10), losses(DType::kF32, Shape{2}), targets(DType::kI32, Shape{2});
  targets.set(0, 10);
  const auto got = after(cuda_backend(), {losses, logits, targets}, [](Backend& b, const Tensors& t) {
    b.run(CrossEntropy{t[0], t[1], t[2], 1});
  });
  EXPECT_TRUE(std::isnan(got[0].at(0)));
  EXPECT_NEAR(got[0].at(1), std::log(10), 1e-6);
}

TEST(CudaParity, Embedding) {
  SLUICE_SKIP_WITHOUT_CUDA();
  // N, V, C, T: sorted in shared memory alone and by further merges; runs within a chunk and over many; several groups
  // of columns; the last sequence not whole.
  const int64_t cases[][4] = {
      {1, 1, 1, 1}, {65, 7, 20, 13}, {130, 500, 257, 65}, {2049, 3, 8, 1024}, {5000, 40, 20, 128}};
  for_device_types([&](DType dtype) {
    for (auto [N, V, C, T] : cases)
      for (int flags = 0; flags < 4; ++flags) {
        SCOPED_TRACE(fmt::format("N {} V {} C {} T {}, flags {}", N, V, C, T, flags));
        TestBuffer act(dtype, N, C, C + (flags & 1 ? 3 : 0)), tokens(DType::kI32, Shape{N});
        TestBuffer table(DType::kF32, V, C), positions(DType::kF32, T + 2, C), d_table = table, d_positions = positions;
        act.randomise(1), tokens.randomise_indices(2, V), table.randomise(3), positions.randomise(4);
        d_table.randomise(5), d_positions.randomise(6);
        expect_parity(
            {act, tokens, table, positions},
            [=, T = T](Backend& b, const Tensors& t) {
              const Tensor segment = flags > 1 ? t[3].row_range(0, 1) : Tensor{};
              b.run(EmbeddingForward{t[0], t[1], t[2], flags ? t[3] : Tensor{}, T, {}, segment});
            },
            8);
        expect_parity(
            {d_table, d_positions, act, tokens},
            [=, T = T](Backend& b, const Tensors& t) {
              b.run(EmbeddingBackward{t[0], flags ? t[1] : Tensor{}, t[2], t[3], T, bool(flags & 1), bool(flags & 2)});
            },
            8.0 * double(N));
      }
  });
}

TEST(CudaParity, Registers) {
  SLUICE_SKIP_WITHOUT_CUDA();
  constexpr int64_t kB = 3, kT = 7, kR = 2, kV = 5;
  for_device_types([&](DType dtype) {
    for (const int64_t C : {20, 33}) {
      TestBuffer act(dtype, kB * kT, C), tokens(DType::kI32, Shape{kB * kT}), table(DType::kF32, kV, C),
          positions(DType::kF32, kT, C), registers(DType::kF32, kR, C);
      act.randomise(1), tokens.randomise_indices(2, kV), table.randomise(3), positions.randomise(4),
          registers.randomise(5);
      for (int64_t n = 0; n < kB * kT; ++n)
        if (n % kT < kR) tokens.set(n, -1);
      for (const bool add : {false, true}) {
        expect_parity(
            {act, tokens, table, positions, registers},
            [=](Backend& b, const Tensors& t) {
              b.run(EmbeddingForward{t[0], t[1], t[2], add ? t[3] : Tensor{}, kT, t[4]});
            },
            8);
        expect_parity(
            {table, positions, act, tokens, registers},
            [=](Backend& b, const Tensors& t) {
              b.run(EmbeddingBackward{t[0], t[1], t[2], t[3], kT, add, add, t[4]});
            },
            8.0 * kB * kT);
      }
    }
  });
}

TEST(CudaParity, TokensBeyondTheTableAreHarmless) {
  SLUICE_SKIP_WITHOUT_CUDA();
  TestBuffer act(DType::kF32, 3, 5), tokens(DType::kI32, Shape{3}), table(DType::kF32, 4, 5), d_table = table;
  table.randomise(1);
  tokens.set(0, 4), tokens.set(1, -1), tokens.set(2, 2);
  const auto got = after(cuda_backend(), {act, tokens, table, d_table}, [](Backend& b, const Tensors& t) {
    b.run(EmbeddingForward{t[0], t[1], t[2], {}, 3});
    b.run(EmbeddingBackward{t[3], {}, t[0], t[1], 3, false, false});
  });
  EXPECT_TRUE(std::isnan(got[0].at(0, 0)) && std::isnan(got[0].at(1, 4)));
  for (int64_t c = 0; c < 5; ++c) EXPECT_EQ(got[0].at(2, c), table.at(2, c));
  for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(got[3].at(i), i / 5 == 2 ? table.at(i) : 0) << i;
}

TEST(CudaParity, Optimizers) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for (int64_t n : {1, 15, 64, 4097})
    for (int64_t first : {0, 1}) {  // ranges may start anywhere
      std::vector<TestBuffer> buffers(4, TestBuffer(DType::kF32, Shape{n + first}));
      for (size_t i = 0; i < 4; ++i) buffers[i].randomise(i, 0.1);
      for (int64_t i = 0; i < n + first; ++i) buffers[3].set(i, std::fabs(buffers[3].at(i)));
      buffers.push_back(TestBuffer(DType::kBF16, Shape{n + first}));
      for (bool with_copy : {false, true}) {
        const auto range = [=](const Tensors& t, bool moment, bool second) {
          const auto part = [=](const Tensor& whole) {
            Tensor out = whole.columns(first, n);
            return Tensor(out.data, out.dtype, {n});
          };
          OptimizerRange out;
          out.param = part(t[0]);
          out.grad = part(t[1]);
          if (moment) out.first_moment = part(t[2]);
          if (second) out.second_moment = part(t[3]);
          if (with_copy) out.compute_copy = part(t[4]);
          out.weight_decay = 0.1;
          return out;
        };
        const auto adamw = [&](Backend& b, const Tensors& t) {
          b.run(AdamWUpdate{range(t, true, true), {1e-2, 0.9, 0.95, 1e-8, 3, 0.5}});
        };
        expect_parity(buffers, adamw, 8);
        for (double momentum : {0.0, 0.9})
          expect_parity(
              buffers,
              [&](Backend& b, const Tensors& t) {
                b.run(SgdUpdate{range(t, momentum != 0, false), {1e-2, momentum, 0.5}});
              },
              8);
      }
    }
}

// A norm is a sum in another order: 1024 elements a block in fp32 on the CPU. What it divides is below 1.
TEST(CudaParity, Muon) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType dtype) {
    for (auto [R, C] : kShapes) {
      TestBuffer grad(DType::kF32, R, C), momentum = grad, out(dtype, R, C);
      grad.randomise(1), momentum.randomise(2);
      expect_parity(
          {grad, momentum, out},
          [](Backend& b, const Tensors& t) {
            b.run(MuonMomentum{t[0], t[1], t[2], 0.95, 0.5});
          },
          32);
    }
    for (int64_t n : {1, 20, 64, 257}) {
      TestBuffer x(dtype, n, n), y = x, out = x;
      x.randomise(1), y.randomise(2);
      expect_parity(
          {out, x, y},
          [](Backend& b, const Tensors& t) {
            b.run(MatrixSum{t[0], t[1], t[2], 3.4, -4.8, 2});
          },
          64);
      expect_parity(
          {x, y},
          [](Backend& b, const Tensors& t) {
            b.run(MatrixSum{t[0], t[0], t[1], 3.4, -4.8, 2});
          },
          64);
    }
  });
}

TEST(CudaParity, Sums) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType dtype) {
    for (int64_t n : {1, 3, 64, 1025, 100003}) {
      TestBuffer x(dtype, Shape{n});
      x.randomise(1);
      double sums[2], squares[2], size = 0, square_size = 0;
      for (int64_t i = 0; i < n; ++i) size += std::fabs(x.at(i)), square_size += x.at(i) * x.at(i);
      for (int run : {0, 1})
        after(cuda_backend(), {x}, [&](Backend& b, const Tensors& t) {
          sums[run] = b.run(Sum{t[0].columns(n / 3, n - n / 3)});
          squares[run] = b.run(SumOfSquares{t[0]});
        });
      EXPECT_EQ(sums[0], sums[1]);
      EXPECT_EQ(squares[0], squares[1]);
      after(cpu_backend(), {x}, [&](Backend& b, const Tensors& t) {  // blocks of 1024 are added up in fp32 there
        EXPECT_NEAR(sums[0], b.run(Sum{t[0].columns(n / 3, n - n / 3)}), 1024 * 0x1p-24 * size);
        EXPECT_NEAR(squares[0], b.run(SumOfSquares{t[0]}), 1024 * 0x1p-24 * square_size);
      });
    }
  });
}

}  // namespace
}  // namespace sluice
