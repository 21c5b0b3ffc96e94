// Rows of one sequence for all, on a GPU. The sum over sequences is one thread's for each pack, in their order.
#include "kernels/ops/stages/share_rows.h"

#include "kernels/cuda/packs.cuh"

namespace sluice::cuda {
namespace {

template <class S>
struct Share {
  Rows<S> out, x;
  int64_t T;
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    const int64_t t = row - quotient(row, T) * T;
    store_pack(out.at(row, col), load_pack(x.at(t, col), count, vector), count, vector);
  }
};

template <class S>
struct SumOfSequences {
  Rows<S> d_x, d_out;
  int64_t T, B;
  bool vector;
  __device__ void operator()(int64_t t, int64_t col, int count) const {
    float sum[kPack], more[kPack];
    load(sum, d_x.at(t, col), count, vector);
    for (int64_t b = 0; b < B; ++b) {
      load(more, d_out.at(b * T + t, col), count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum[i] += more[i];
    }
    store(d_x.at(t, col), sum, count, vector);
  }
};

}  // namespace

template <>
void on(const ShareRowsForward& op, const Queue& queue) {
  const View out = view_of(op.out), x = view_of(op.x);
  with_element(x.element, [&](auto storage) {
    using S = decltype(storage);
    map(out.rows, out.cols, false, queue.stream,
        Share<S>{rows_of<S>(out), rows_of<S>(x), x.rows, vectorizable(out) && vectorizable(x)});
  });
}

template <>
void on(const ShareRowsBackward& op, const Queue& queue) {
  const View d_x = view_of(op.d_x), d_out = view_of(op.d_out);
  with_element(d_x.element, [&](auto storage) {
    using S = decltype(storage);
    map(d_x.rows, d_x.cols, false, queue.stream,
        SumOfSequences<S>{rows_of<S>(d_x), rows_of<S>(d_out), d_x.rows, d_out.rows / d_x.rows,
                          vectorizable(d_x) && vectorizable(d_out)});
  });
}

}  // namespace sluice::cuda
