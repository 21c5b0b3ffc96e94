// The order of rows in a permutation's slots on a GPU, a thread a slot and then a thread a token, which counts over all
// tokens of its sequence: T^2 comparisons, little beside attention. And rows by their numbers.
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

template <class S>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(Rows<S> out, Rows<const S> x, const int32_t* index, int64_t rows, int64_t from, int64_t C) {
  const int64_t n = blockIdx.x, source = n / rows * from + index[n];
  for (int64_t c = threadIdx.x; c < C; c += kThreads) *out.at(n, c) = *x.at(source, c);
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

template <>
void on(const GatherRows& op, const Queue& queue) {
  if (op.out.elements() == 0) return;
  with_element(view_of(op.x).element, [&](auto storage) {
    using S = decltype(storage);
    launch(gather_kernel<S>, dim3(unsigned(op.out.rows())), dim3(kThreads), 0, queue.stream, rows_of<S>(op.out),
           rows_of<const S>(op.x), op.index.as<const int32_t>(), op.out.rows() / op.sequences,
           op.x.rows() / op.sequences, op.x.cols());
  });
}

}  // namespace sluice::cuda
