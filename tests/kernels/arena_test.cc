// The memory plan: no two live buffers share a byte, buffers whose lives do not meet do; and the arena on a backend.
#include "kernels/arena.h"

#include <gtest/gtest.h>

#include "base/philox.h"
#include "kernels/backend.h"

namespace sluice {
namespace {

bool alive(const MemoryPlan::Buffer& buffer, int tick) {
  const auto within = [&](const Lifetime& life) { return life.first <= tick && tick <= life.last; };
  return within(buffer.life) || (buffer.again && within(*buffer.again));
}

bool meet(const MemoryPlan::Buffer& a, const MemoryPlan::Buffer& b) {
  for (int tick = 0; tick < 64; ++tick)
    if (alive(a, tick) && alive(b, tick)) return true;
  return false;
}

void expect_sound(const MemoryPlan& plan) {
  for (const auto& a : plan.buffers()) {
    EXPECT_EQ(a.offset % 64, 0u);
    EXPECT_LE(a.offset + a.bytes, plan.total_bytes());
    for (const auto& b : plan.buffers()) {
      if (&a == &b || !meet(a, b)) continue;
      EXPECT_TRUE(a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset) << a.name << " and " << b.name;
    }
  }
}

TEST(MemoryPlan, SharesMemoryBetweenLivesThatDoNotMeet) {
  MemoryPlan plan;
  const BufferId a = plan.declare("a", "scratch", {100, 16}, DType::kF32, {0, 1});
  const BufferId b = plan.declare("b", "scratch", {100, 16}, DType::kF32, {2, 3});
  const BufferId c = plan.declare("c", "scratch", {10}, DType::kBF16, {1, 2});
  plan.plan();
  expect_sound(plan);
  EXPECT_EQ(plan.buffer(a).offset, plan.buffer(b).offset);
  EXPECT_EQ(plan.buffer(c).bytes, 20u);
  EXPECT_EQ(plan.total_bytes(), 6400u + 64u);
}

TEST(MemoryPlan, TheLastTickOfALifeStillCounts) {
  MemoryPlan plan;
  plan.declare("a", "scratch", {16}, DType::kF32, {0, 2});
  plan.declare("b", "scratch", {16}, DType::kF32, {2, 3});
  plan.plan();
  EXPECT_EQ(plan.total_bytes(), 128u);
}

TEST(MemoryPlan, ABufferWithTwoLivesLendsItsMemoryInBetween) {
  MemoryPlan plan;
  const BufferId twice = plan.declare("twice", "activations", {16}, DType::kF32, {0, 1}, Lifetime{6, 7});
  const BufferId between = plan.declare("between", "activations", {16}, DType::kF32, {2, 5});
  const BufferId across = plan.declare("across", "activations", {16}, DType::kF32, {5, 6});
  plan.plan();
  expect_sound(plan);
  EXPECT_EQ(plan.buffer(between).offset, plan.buffer(twice).offset);
  EXPECT_NE(plan.buffer(across).offset, plan.buffer(twice).offset);
  EXPECT_EQ(plan.total_bytes(), 128u);
}

TEST(MemoryPlan, FillsGapsAndStaysNearTheLowerBound) {
  MemoryPlan plan;
  size_t peak = 0;
  std::vector<size_t> live(64);
  for (int i = 0; i < 200; ++i) {
    const Random4 r = philox(3, 0, uint64_t(i));
    const int first = int(r.word[0] % 60), last = first + int(r.word[1] % 4);
    const auto n = int64_t(1 + r.word[2] % 5000);
    const int later = last + 2 + int(r.word[3] % 8);
    const bool again = i % 3 == 0 && later < 64;
    plan.declare(fmt::format("b{}", i), "scratch", {n}, DType::kF32, {first, last},
                 again ? std::optional(Lifetime{later, later}) : std::nullopt);
    for (int tick = 0; tick < 64; ++tick)
      if (alive(plan.buffers().back(), tick)) peak = std::max(peak, live[size_t(tick)] += size_t(n) * 4 + 63);
  }
  plan.plan();
  expect_sound(plan);
  EXPECT_LE(double(plan.total_bytes()), 1.25 * double(peak));
}

TEST(MemoryPlan, AnEmptyPlanNeedsNothing) {
  MemoryPlan plan;
  plan.plan();
  EXPECT_EQ(plan.total_bytes(), 0u);
}

TEST(MemoryPlan, RefusesLateAndImpossibleDeclarations) {
  MemoryPlan plan;
  EXPECT_THROW(plan.declare("a", "scratch", {1}, DType::kF32, {2, 1}), std::logic_error);
  plan.plan();
  EXPECT_THROW(plan.declare("a", "scratch", {1}, DType::kF32, {0, 1}), std::logic_error);
  EXPECT_THROW(plan.plan(), std::logic_error);
}

TEST(Arena, IsAlignedAndZeroedAtAnySize) {
  const auto backend = make_cpu_backend();
  for (size_t bytes : {size_t{1}, size_t{4096}, size_t{20} << 20}) {
    const Arena arena(*backend, bytes);
    const Tensor t = arena.at(0, DType::kBF16, {int64_t(bytes / 2)});
    EXPECT_EQ(reinterpret_cast<uintptr_t>(t.data) % 64, 0u);
    EXPECT_EQ(arena.bytes(), bytes);
    for (int64_t i = 0; i < t.elements(); ++i) ASSERT_EQ(t.as<uint16_t>()[i], 0);
  }
}

TEST(Arena, HandsOutTensorsInsideOnly) {
  const auto backend = make_cpu_backend();
  const Arena arena(*backend, 256);
  const Tensor t = arena.at(64, DType::kF32, {4, 12});
  EXPECT_EQ(t.shape, (Shape{4, 12}));
  EXPECT_EQ(static_cast<char*>(t.data) - static_cast<char*>(arena.at(0, DType::kF32, {1}).data), 64);
  EXPECT_THROW(arena.at(64, DType::kF32, {4, 13}), std::logic_error);
  EXPECT_THROW(arena.at(2, DType::kF32, {1}), std::logic_error);
}

TEST(Arena, Moves) {
  const auto backend = make_cpu_backend();
  Arena a(*backend, 128), b;
  void* data = a.at(0, DType::kF32, {1}).data;
  b = std::move(a);
  EXPECT_EQ(b.at(0, DType::kF32, {1}).data, data);
  const Arena c(std::move(b));
  EXPECT_EQ(c.at(0, DType::kF32, {1}).data, data);
  EXPECT_EQ(c.bytes(), 128u);
}

}  // namespace
}  // namespace sluice
