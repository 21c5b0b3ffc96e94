// Mixes of two tensors: examples for the tests that walk the list of ops, and the ops against plain loops in double.
#include "kernels/ops/stages/mix.h"

#include <gtest/gtest.h>

#include "kernels/op_example.h"

namespace sluice {
namespace {

struct MixExample : ExampleBase {
  using ExampleBase::ExampleBase;
  const size_t x = given(C), y = given(C), x_share = given_flat(acc, {1}), y_share = given_flat(acc, {1});
  MixForward inputs(const Tensors& t) const { return {{t[x_share], t[y_share]}, t[x], t[y], {}}; }
};

struct ForwardExample : MixExample {
  using MixExample::MixExample;
  const size_t out = written(C);
  MixForward op(const Tensors& t) const {
    MixForward op = inputs(t);
    op.out = t[out];
    return op;
  }
};

struct BackwardExample : MixExample {
  using MixExample::MixExample;
  const size_t d_out = given(C), d_x = written(C), d_y = written(C), d_x_share = written_flat(acc, {1}),
               d_y_share = written_flat(acc, {1});
  MixBackward op(const Tensors& t) const {
    return {.forward = inputs(t),
            .d_out = t[d_out],
            .d_x = t[d_x],
            .d_y = t[d_y],
            .d_x_share = t[d_x_share],
            .d_y_share = t[d_y_share]};
  }
};

// ---- against plain loops --------------------------------------------------------------------------------------------

constexpr double kOwn = 0.75, kOther = -1.5;

struct Buffers {
  int64_t N, C;
  TestBuffer x, y, d, out, d_y, own, other, d_own, d_other, workspace;
  Buffers(DType type, int64_t N, int64_t C)
      : N(N),
        C(C),
        x(type, N, C, C + 3),
        y(type, N, C, C + 1),
        d(type, N, C),
        out(type, N, C, C + 2),
        d_y(type, N, C),
        own(accumulator_of(type), Shape{1}),
        other(own),
        d_own(own),
        d_other(own),
        workspace(DType::kF32, Shape{cpu_backend().workspace<MixBackward>({1})}) {
    x.randomise(1), y.randomise(2), d.randomise(3), d_y.randomise(4), d_own.randomise(5), d_other.randomise(6);
    own.set(0, kOwn), other.set(0, kOther);
  }
  MixShares shares(bool learned) const {
    if (learned) return {own, other};
    return {.x_fixed = kOwn, .y_fixed = kOther};
  }
  MixForward forward(bool learned) const { return {shares(learned), x, y, out}; }
  MixBackward backward(bool learned, bool add) const {
    return {.forward = {shares(learned), x, y, {}},
            .d_out = d,
            .d_x = out,
            .d_y = d_y,
            .add_to_d_y = add,
            .d_x_share = learned ? d_own.tensor() : Tensor{},
            .d_y_share = learned ? d_other.tensor() : Tensor{},
            .accumulate = add,
            .workspace = workspace};
  }
};

// body(isa, type, learned, buffers)
template <class Body>
void for_cases(Body body) {
  for_kernels([&](const IsaKernels& isa, DType type) {
    for (const bool learned : {false, true})
      for (const auto& [N, C] : {std::pair<int64_t, int64_t>{1, 1}, {3, 17}, {300, 65}}) {
        SCOPED_TRACE(fmt::format("[{},{}], learned {}", N, C, learned));
        Buffers b(type, N, C);
        body(isa, type, learned, b);
      }
  });
}

TEST(Mix, AddsItsSharesOfBoth) {
  for_cases([](const IsaKernels& isa, DType type, bool learned, Buffers& b) {
    isa.run(b.forward(learned));
    for (int64_t n = 0; n < b.N; ++n)
      for (int64_t c = 0; c < b.C; ++c) {
        const double x = kOwn * b.x.at(n, c), y = kOther * b.y.at(n, c);
        ASSERT_TRUE(near_value(b.out.at(n, c), x + y, type, std::fabs(x) + std::fabs(y), 2)) << n << " " << c;
      }
    EXPECT_TRUE(b.out.untouched());
  });
}

TEST(Mix, HasTheGradientOfTheForwardPass) {
  for_cases([](const IsaKernels& isa, DType type, bool learned, Buffers& b) {
    for (const bool add : {false, true}) {
      const Buffers before = b;
      isa.run(b.backward(learned, add));
      double own = 0, other = 0, own_size = 0, other_size = 0;
      for (int64_t n = 0; n < b.N; ++n)
        for (int64_t c = 0; c < b.C; ++c) {
          const double d = b.d.at(n, c), was = add ? before.d_y.at(n, c) : 0;
          own += d * b.x.at(n, c), own_size += std::fabs(d * b.x.at(n, c));
          other += d * b.y.at(n, c), other_size += std::fabs(d * b.y.at(n, c));
          ASSERT_TRUE(near_value(b.out.at(n, c), kOwn * d, type, std::fabs(d), 1));
          ASSERT_TRUE(near_value(b.d_y.at(n, c), was + kOther * d, type, std::fabs(was) + 2 * std::fabs(d), 2));
        }
      if (learned) {
        const DType acc = accumulator_of(type);
        const double steps = 8 + double(b.C) / 4 + double(b.N) / 8;  // within a row, over a chunk's rows, over chunks
        if (add) own += before.d_own.at(0), other += before.d_other.at(0);
        EXPECT_TRUE(near_value(b.d_own.at(0), own, acc, own_size + std::fabs(own), steps));
        EXPECT_TRUE(near_value(b.d_other.at(0), other, acc, other_size + std::fabs(other), steps));
      } else {
        EXPECT_EQ(b.d_own.at(0), before.d_own.at(0));
      }
      EXPECT_TRUE(b.out.untouched() && b.d_y.untouched() && b.d_own.untouched() && b.workspace.untouched());
    }
  });
}

TEST(Mix, GradientsAreDifferencesOfTheResult) {
  const IsaKernels& isa = *available_isas().back();
  Buffers b(DType::kF64, 3, 5);
  isa.run(b.backward(true, false));
  const Buffers found = b;
  const auto loss = [&] {
    isa.run(b.forward(true));
    double sum = 0;
    for (int64_t i = 0; i < b.out.size(); ++i) sum += b.out.at(i) * b.d.at(i);
    return sum;
  };
  for (int64_t i = 0; i < b.x.size(); ++i) EXPECT_NEAR(found.out.at(i), slope(b.x, i, loss), 1e-8);
  for (int64_t i = 0; i < b.y.size(); ++i) EXPECT_NEAR(found.d_y.at(i), slope(b.y, i, loss), 1e-8);
  EXPECT_NEAR(found.d_own.at(0), slope(b.own, 0, loss), 1e-8);
  EXPECT_NEAR(found.d_other.at(0), slope(b.other, 0, loss), 1e-8);
}

// The first alone is handed on bit by bit.
TEST(Mix, OfOneAndNothingIsTheFirst) {
  for_kernels([](const IsaKernels& isa, DType type) {
    Buffers b(type, 7, 33);
    b.own.set(0, 1), b.other.set(0, 0);
    isa.run(b.forward(true));
    for (int64_t n = 0; n < 7; ++n)
      for (int64_t c = 0; c < 33; ++c) ASSERT_EQ(b.out.at(n, c), b.x.at(n, c));
  });
}

}  // namespace

SLUICE_OP_EXAMPLE(MixForward, ForwardExample)
SLUICE_OP_EXAMPLE(MixBackward, BackwardExample)

}  // namespace sluice
