// Rows by their numbers: an example for the tests that walk the list of ops, and what comes out.
#include "kernels/ops/stages/gather_rows.h"

#include <gtest/gtest.h>

#include "kernels/op_example.h"
#include "kernels/ops/stages/window_order.h"

namespace sluice {
namespace {

struct GatherExample : ExampleBase {
  const size_t x = given(45), index = indices(T), out = written(45);
  GatherExample(DType act, int64_t gap, int64_t N) : ExampleBase(act, gap, N) { buffers[index].set(1, -1); }
  GatherRows op(const Tensors& t) const { return {.sequences = N / T, .x = t[x], .index = t[index], .out = t[out]}; }
};

// To the order and back: the same bits.
TEST(GatherRows, BackFromAnOrderIsExact) {
  for_kernels([](const IsaKernels& isa, DType type) {
    constexpr int64_t B = 2, T = 33, C = 21;
    TestBuffer order(DType::kI32, {kOrderPlanes, B, T}), x(type, B * T, C, C + 3), there(type, B * T, C),
        back(type, B * T, C, C + 3);
    x.randomise(1), poison(there), poison(back);
    isa.run(WindowOrder{.permutation = {.seed = 1, .stream = 2, .size = 40}, .T = T, .reach = 4, .order = order});
    const auto plane = [&](OrderPlane which) {
      return order.tensor().reshaped({kOrderPlanes, B * T}).row_range(int64_t(which), 1);
    };
    isa.run(GatherRows{.sequences = B, .x = x, .index = plane(OrderPlane::kPlace), .out = there});
    isa.run(GatherRows{.sequences = B, .x = there, .index = plane(OrderPlane::kRow), .out = back});
    for (int64_t n = 0; n < B * T; ++n)
      for (int64_t c = 0; c < C; ++c) {
        const int64_t place = int64_t(order.at(int64_t(OrderPlane::kPlace) * B * T + n));
        ASSERT_EQ(there.at(n, c), x.at(n / T * T + place, c));
        ASSERT_EQ(back.at(n, c), x.at(n, c));
      }
    EXPECT_TRUE(back.untouched());
  });
}

// Where no row is named, as between predicted ones, there are zeros.
TEST(GatherRows, HasZerosWhereNoRowIsNamed) {
  for_kernels([](const IsaKernels& isa, DType type) {
    constexpr int64_t B = 2, T = 3, C = 19;
    TestBuffer x(type, B * T, C, C + 5), index(DType::kI32, Shape{B * T}), out(type, B * T, C, C + 2);
    x.randomise(1), poison(out);
    const int64_t rows[B * T] = {-1, 2, 0, 1, -7, -1};
    for (int64_t n = 0; n < B * T; ++n) index.set(n, double(rows[n]));
    isa.run(GatherRows{.sequences = B, .x = x, .index = index, .out = out});
    for (int64_t n = 0; n < B * T; ++n)
      for (int64_t c = 0; c < C; ++c)
        ASSERT_EQ(out.at(n, c), rows[n] < 0 ? 0 : x.at(n / T * T + rows[n], c)) << n << ' ' << c;
    EXPECT_TRUE(out.untouched());
  });
}

// Fewer rows than there are, as a decoder picks them.
TEST(GatherRows, TakesSomeOfEverySequence) {
  for_kernels([](const IsaKernels& isa, DType type) {
    TestBuffer x(type, 10, 3), index(DType::kI32, Shape{4}), out(type, 4, 3);
    x.randomise(1), poison(out);
    for (int64_t i = 0; i < 4; ++i) index.set(i, i % 2 == 0 ? 4 : 1);
    isa.run(GatherRows{.sequences = 2, .x = x, .index = index, .out = out});
    for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(out.at(i, 2), x.at(i / 2 * 5 + (i % 2 == 0 ? 4 : 1), 2));
  });
}

TEST(GatherRows, RefusesRowsThatAreNotThere) {
  const auto backend = make_cpu_backend();
  TestBuffer x(DType::kF32, 10, 3), index(DType::kI32, Shape{4}), out(DType::kF32, 4, 3);
  index.set(1, 5);
  EXPECT_THROW(backend->run(GatherRows{.sequences = 2, .x = x, .index = index, .out = out}), std::logic_error);
}

}  // namespace

SLUICE_OP_EXAMPLE(GatherRows, GatherExample)

}  // namespace sluice
