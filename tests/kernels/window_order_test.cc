// The order of rows in a permutation: an example for the tests that walk the list of ops; that a permutation is one;
// and the order against its definition.
#include "kernels/ops/stages/window_order.h"

#include <gtest/gtest.h>

#include <set>

#include "kernels/op_example.h"

namespace sluice {
namespace {

constexpr Permutation kPermutation = {.seed = 5, .stream = uint64_t(Stream::kWindowOrder) + 2, .size = 11};

struct OrderExample : ExampleBase {
  const size_t first_key = given_flat(DType::kI32, {N}), order = written_flat(DType::kI32, {kOrderPlanes, N});
  OrderExample(DType act, int64_t gap, int64_t N) : ExampleBase(act, gap, N) {
    for (int64_t n = 0; n < N; ++n) buffers[first_key].set(n, n % T < 3 ? 0 : 3);
  }
  WindowOrder op(const Tensors& t) const {
    return {.permutation = kPermutation, .T = T, .reach = 3, .first_key = t[first_key], .order = t[order]};
  }
};

TEST(Permutation, IsOneOfAnyCount) {
  for (const int64_t count : {1, 2, 3, 4, 5, 16, 17, 70, 255, 256, 257, 1000, 4096}) {
    std::set<int64_t> found;
    for (int64_t at = 0; at < count; ++at) {
      const int64_t to = int64_t(Permutation{.seed = 1, .stream = 3, .size = uint64_t(count)}(uint64_t(at)));
      EXPECT_TRUE(to >= 0 && to < count);
      found.insert(to);
    }
    EXPECT_EQ(int64_t(found.size()), count);
  }
}

TEST(Permutation, IsAnotherForAnotherSeedOrStream) {
  const auto first = [](uint64_t seed, uint64_t stream) {
    std::vector<uint64_t> out;
    for (int64_t at = 0; at < 64; ++at)
      out.push_back(Permutation{.seed = seed, .stream = stream, .size = 64}(uint64_t(at)));
    return out;
  };
  const std::set<std::vector<uint64_t>> all = {first(0, 0), first(1, 0), first(0, 1), first(1, 1)};
  EXPECT_EQ(all.size(), 4u);
}

// How far places that are neighbours in the order lie apart: of a random permutation of n a third of n on average, with
// a deviation of n / sqrt(18 n) or so.
TEST(Permutation, ScattersNeighbours) {
  constexpr int64_t kCount = 4096;
  double sum = 0;
  for (int64_t at = 1; at < kCount; ++at) {
    const Permutation p = {.seed = 9, .stream = 1, .size = kCount};
    sum += std::fabs(double(p(uint64_t(at))) - double(p(uint64_t(at - 1))));
  }
  EXPECT_NEAR(sum / (kCount - 1) / kCount, 1.0 / 3, 5 / std::sqrt(18.0 * kCount));
}

struct OrderCase {
  int64_t B, T, slots, reach;
  bool documents;
};
const OrderCase kCases[] = {{1, 1, 1, 1, false},  {1, 1, 9, 2, false},   {2, 7, 11, 3, true},
                            {3, 40, 40, 7, true}, {2, 33, 90, 5, false}, {1, 50, 64, 1000, true}};

TEST(WindowOrder, IsWhatItsPlanesSay) {
  for_kernels([](const IsaKernels& isa, DType) {
    for (const OrderCase& c : kCases) {
      SCOPED_TRACE(fmt::format("{} of {} in {}, reach {}", c.B, c.T, c.slots, c.reach));
      const Permutation permutation = {.seed = 3, .stream = 8, .size = uint64_t(c.slots)};
      std::vector<int64_t> slot_of(static_cast<size_t>(c.slots));
      for (int64_t slot = 0; slot < c.slots; ++slot) slot_of[size_t(permutation(uint64_t(slot)))] = slot;
      TestBuffer first_key(DType::kI32, c.B, c.T), order(DType::kI32, {kOrderPlanes, c.B, c.T});
      for (int64_t n = 0; c.documents && n < first_key.size(); ++n)
        first_key.set(n, double(n % c.T / (5 + n / c.T) * (5 + n / c.T)));
      poison(order);
      isa.run(WindowOrder{.permutation = permutation,
                          .T = c.T,
                          .reach = c.reach,
                          .first_key = c.documents ? first_key.tensor() : Tensor{},
                          .order = order});
      for (int64_t n = 0; n < c.B * c.T; ++n) {
        const auto of = [&](OrderPlane plane, int64_t row) {
          return int64_t(order.at(int64_t(plane) * c.B * c.T + row));
        };
        const int64_t start = n / c.T * c.T, place = of(OrderPlane::kPlace, n), own = slot_of[size_t(place)];
        const int64_t first = int64_t(first_key.at(start + place));
        int64_t row = 0, begin = 0, end = 0, length = 0;
        for (int64_t other = 0; other < c.T; ++other) {
          const int64_t distance = slot_of[size_t(other)] - own;
          row += distance < 0, begin += distance <= -c.reach, end += distance < c.reach;
          length += std::abs(distance) < c.reach && other >= first && other <= place;
        }
        EXPECT_EQ(row, n % c.T);
        EXPECT_EQ(of(OrderPlane::kRow, start + place), row);
        EXPECT_EQ(of(OrderPlane::kSlot, start + place), own);
        EXPECT_EQ(of(OrderPlane::kFirst, n), first);
        EXPECT_EQ(of(OrderPlane::kBegin, n), begin);
        EXPECT_EQ(of(OrderPlane::kEnd, n), end);
        EXPECT_EQ(of(OrderPlane::kLength, n), length);
      }
      EXPECT_TRUE(order.untouched());
    }
  });
}

}  // namespace

SLUICE_OP_EXAMPLE(WindowOrder, OrderExample)

}  // namespace sluice
