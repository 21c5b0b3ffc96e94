// The emulator itself: what it computes for the tensor-core instructions, and that it notices faulty kernels.
#include "emulator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "cuda_runtime.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"

namespace sluice::cuda {
namespace {

constexpr unsigned kAll = 0xffffffffu;

// Small integers: every product and sum is exact in every format.
float a_value(int row, int k) { return float((row * 7 + k * 3) % 11 - 5); }
float b_value(int k, int col) { return float((k * 5 + col * 2) % 13 - 6); }

float product(int row, int col, int K) {
  float sum = 0;
  for (int k = 0; k < K; ++k) sum += a_value(row, k) * b_value(k, col);
  return sum;
}

void store_accumulator(float* out, const float (&c)[4]) {
  const int g = int(threadIdx.x) / 4, t = int(threadIdx.x) % 4;
  for (int r = 0; r < 4; ++r) out[(g + r / 2 * 8) * 8 + 2 * t + r % 2] = c[r];
}

void expect_product(const std::vector<float>& out, int K) {
  for (int row = 0; row < 16; ++row)
    for (int col = 0; col < 8; ++col)
      EXPECT_EQ(out[size_t(row * 8 + col)], 1 + product(row, col, K)) << row << " " << col;
}

// A row-major and B as [n, k], both through ldmatrix, as an attention kernel loads queries and keys; and B as [k, n]
// through the transposing form, as it loads values.
void multiply_bf16(float* out, bool transposed) {
  __shared__ Bf16 a[16][16], b[8][16], bt[16][8];
  for (int i = int(threadIdx.x); i < 256; i += 32) a[i / 16][i % 16] = to_bf16(a_value(i / 16, i % 16));
  for (int i = int(threadIdx.x); i < 128; i += 32) {
    b[i / 16][i % 16] = to_bf16(b_value(i % 16, i / 16));
    bt[i / 8][i % 8] = to_bf16(b_value(i / 8, i % 8));
  }
  __syncthreads();
  const int lane = int(threadIdx.x);
  uint32_t fa[4], fb[2];
  ldmatrix_x4(fa, &a[lane % 16][lane / 16 * 8]);
  if (transposed) ldmatrix_x2_trans(fb, &bt[lane % 16][0]);
  else ldmatrix_x2(fb, &b[lane % 8][lane / 8 % 2 * 8]);
  float c[4] = {1, 1, 1, 1};
  mma_bf16(c, fa, fb);
  store_accumulator(out, c);
}

void multiply_tf32(float* out) {
  const int g = int(threadIdx.x) / 4, t = int(threadIdx.x) % 4;
  const uint32_t a[4] = {tf32_bits(a_value(g, t)), tf32_bits(a_value(g + 8, t)), tf32_bits(a_value(g, t + 4)),
                         tf32_bits(a_value(g + 8, t + 4))};
  const uint32_t b[2] = {tf32_bits(b_value(t, g)), tf32_bits(b_value(t + 4, g))};
  float c[4] = {1, 1, 1, 1};
  mma_tf32(c, a, b);
  store_accumulator(out, c);
}

TEST(CudaEmulation, TensorCoreInstructionsMultiply) {
  std::vector<float> out(128);
  for (const bool transposed : {false, true}) {
    launch(multiply_bf16, 1, 32, 0, nullptr, out.data(), transposed);
    expect_product(out, 16);
  }
  launch(multiply_tf32, 1, 32, 0, nullptr, out.data());
  expect_product(out, 8);
}

TEST(CudaEmulation, Tf32KeepsTenBits) {
  EXPECT_EQ(__uint_as_float(tf32_bits(1 + 0x1p-10f)), 1 + 0x1p-10f);
  EXPECT_EQ(__uint_as_float(tf32_bits(1 + 0x1p-11f)), 1 + 0x1p-10f);  // ties away from zero
  EXPECT_EQ(__uint_as_float(tf32_bits(1 + 0x1p-12f)), 1.0f);
  EXPECT_TRUE(std::isnan(__uint_as_float(tf32_bits(NAN))));
}

float parts[2];  // what a __shared__ array of a kernel is here

void forget_sums() { parts[0] = parts[1] = 0; }

void sum_of_block(float* out, bool with_barrier) {
  float x = float(threadIdx.x);
  for (int bits = 16; bits > 0; bits /= 2) x += __shfl_xor_sync(kAll, x, bits);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  if (with_barrier) __syncthreads();
  out[threadIdx.x] = parts[0] + parts[1];
}

TEST(CudaEmulation, AMissingBarrierChangesTheResult) {
  const auto run = [](emulation::Order order, bool with_barrier) {
    std::vector<float> out(64);
    launch(forget_sums, 1, 32, 0, nullptr);
    emulation::set_order(order);
    launch(sum_of_block, 1, 64, 0, nullptr, out.data(), with_barrier);
    emulation::set_order(emulation::Order::kForward);
    return out;
  };
  const std::vector<float> right(64, 63 * 32);
  for (const auto order : {emulation::Order::kForward, emulation::Order::kBackward}) {
    EXPECT_EQ(run(order, true), right);
    EXPECT_NE(run(order, false), right);
  }
}

void partial_barrier(int*) {
  if (threadIdx.x < 32) __syncthreads();
}

void forgotten_copy(unsigned char* from) { copy_async_16(dynamic_shared(), from, true); }

TEST(CudaEmulation, FaultyKernelsAreErrors) {
  EXPECT_THROW(launch(partial_barrier, 1, 64, 0, nullptr, static_cast<int*>(nullptr)), std::logic_error);
  alignas(16) unsigned char bytes[16] = {};
  EXPECT_THROW(launch(forgotten_copy, 1, 32, 64, nullptr, static_cast<unsigned char*>(bytes)), std::logic_error);
  EXPECT_THROW(launch(forgotten_copy, 1, 33, 64, nullptr, static_cast<unsigned char*>(bytes)), std::logic_error);
  EXPECT_THROW(launch(forgotten_copy, 1, 32, 300000, nullptr, static_cast<unsigned char*>(bytes)), std::logic_error);
}

void early_copy(const unsigned char* from, unsigned char* before, unsigned char* after) {
  unsigned char* shared = dynamic_shared() + 16 * threadIdx.x;
  copy_async_16(shared, from, threadIdx.x % 2 == 0);
  copy_async_commit();
  before[threadIdx.x] = shared[0];
  copy_async_wait<0>();
  after[threadIdx.x] = shared[0];
}

TEST(CudaEmulation, AsynchronousCopiesArriveWhenWaitedFor) {
  alignas(16) unsigned char from[16];
  std::fill_n(from, 16, 7);
  unsigned char before[32], after[32];
  launch(early_copy, 1, 32, 512, nullptr, static_cast<const unsigned char*>(from), static_cast<unsigned char*>(before),
         static_cast<unsigned char*>(after));
  EXPECT_EQ(before[0], 0xff);
  EXPECT_EQ(after[0], 7);
  EXPECT_EQ(after[1], 0);
}

}  // namespace
}  // namespace sluice::cuda
