// The order of rows in a permutation's slots on a GPU, a thread a slot and then a thread a token, which counts over all
// tokens of its sequence: T^2 comparisons, little beside attention.
#include "kernels/ops/stages/window_order.h"

#include "kernels/cuda/packs.cuh"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 256;

unsigned blocks_of(int64_t threads) { return unsigned((threads + kThreads - 1) / kThreads); }

struct Order {
  int32_t* data;
  int64_t N, T;
  __device__ __forceinline__ int32_t& at(OrderPlane plane, int64_t row) const { return data[int64_t(plane) * N + row]; }
};

__global__ void __launch_bounds__(kThreads) slots_kernel(Permutation permutation, Order order) {
  const int64_t slot = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (slot >= int64_t(permutation.size)) return;
  const int64_t place = int64_t(permutation(uint64_t(slot)));
  if (place >= order.T) return;
  for (int64_t n = place; n < order.N; n += order.T) order.at(OrderPlane::kSlot, n) = int32_t(slot);
}

__global__ void __launch_bounds__(kThreads) rows_kernel(const int32_t* first_key, int64_t reach, Order order) {
  const int64_t n = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (n >= order.N) return;
  const int64_t place = n % order.T, start = n - place;
  const int32_t own = order.at(OrderPlane::kSlot, n), first = first_key ? first_key[n] : 0;
  int32_t row = 0, begin = 0, end = 0, length = 0;
  for (int64_t other = 0; other < order.T; ++other) {
    const int32_t slot = order.at(OrderPlane::kSlot, start + other);
    const bool below = slot + reach <= own, inside = slot < own + reach;
    row += slot < own;
    begin += below;
    end += inside;
    length += inside && !below && other >= first && other <= place;
  }
  order.at(OrderPlane::kRow, n) = row;
  order.at(OrderPlane::kPlace, start + row) = int32_t(place);
  order.at(OrderPlane::kFirst, start + row) = first;
  order.at(OrderPlane::kBegin, start + row) = begin;
  order.at(OrderPlane::kEnd, start + row) = end;
  order.at(OrderPlane::kLength, start + row) = length;
}

}  // namespace

template <>
void on(const WindowOrder& op, const Queue& queue) {
  const Order order = {op.order.as<int32_t>(), op.order.elements() / kOrderPlanes, op.T};
  launch(slots_kernel, dim3(blocks_of(int64_t(op.permutation.size))), dim3(kThreads), 0, queue.stream, op.permutation,
         order);
  launch(rows_kernel, dim3(blocks_of(order.N)), dim3(kThreads), 0, queue.stream, op.first_key.as<const int32_t>(),
         op.reach, order);
}

}  // namespace sluice::cuda
