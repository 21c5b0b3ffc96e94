// Rows by their numbers on a GPU: a block a row.
#include "kernels/ops/stages/gather_rows.h"

#include "kernels/cuda/packs.cuh"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 256;

template <class S>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(Rows<S> out, Rows<const S> x, const int32_t* index, int64_t rows, int64_t from, int64_t C) {
  const int64_t n = blockIdx.x, row = index[n], source = n / rows * from + row;
  for (int64_t c = threadIdx.x; c < C; c += kThreads) *out.at(n, c) = row < 0 ? S{} : *x.at(source, c);
}

}  // namespace

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
