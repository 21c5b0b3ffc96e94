// Accumulate on a GPU.
#include "kernels/ops/accumulate.h"

#include "kernels/cuda/packs.cuh"

namespace sluice::cuda {
namespace {

template <class S>
struct Sum {
  Rows<S> out, x;
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    float sum[kPack], more[kPack];
    load(sum, out.at(row, col), count, vector);
    load(more, x.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] += more[i];
    store(out.at(row, col), sum, count, vector);
  }
};

}  // namespace

template <>
void on(const Accumulate& op, const Queue& queue) {
  const View out = view_of(op.out), x = view_of(op.x);
  with_element(x.element, [&](auto storage) {
    using S = decltype(storage);
    map(x.rows, x.cols, flat(out) && flat(x), queue.stream,
        Sum<S>{rows_of<S>(out), rows_of<S>(x), vectorizable(out) && vectorizable(x)});
  });
}

}  // namespace sluice::cuda
