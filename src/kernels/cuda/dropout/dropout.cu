// Dropout on a GPU: a thread draws for the eight values of its pack.
#include "kernels/ops/dropout.h"

#include "kernels/cuda/packs.cuh"
#include "kernels/formulas/dropout.h"

namespace sluice::cuda {
namespace {

static_assert(kPack == kDropoutGroup);

template <class S>
struct Drop {
  Rows<S> out, x;
  const int32_t* keys;
  int64_t T;
  uint64_t stream;
  uint32_t below;
  float scale;
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    const int64_t sequence = quotient(row, T);
    const uint32_t dropped = dropped_of_group(dropout_key_of(keys, sequence), stream, uint32_t(row - sequence * T),
                                              uint32_t(col / kPack), below);
    float v[kPack];
    load(v, x.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = dropped >> i & 1 ? 0.0f : v[i] * scale;
    store(out.at(row, col), v, count, vector);
  }
};

}  // namespace

template <>
void on(const Dropout& op, const Queue& queue) {
  const View out = view_of(op.out), x = view_of(op.x);
  const DropoutRate rate = dropout_rate(op.mask.probability);
  with_element(x.element, [&](auto storage) {
    using S = decltype(storage);
    map(x.rows, x.cols, false, queue.stream,
        Drop<S>{rows_of<S>(out), rows_of<S>(x), op.mask.keys.as<const int32_t>(), x.rows / op.mask.sequences(),
                dropout_stream(op.mask.place, 0), rate.below, float(rate.scale), vectorizable(out) && vectorizable(x)});
  });
}

}  // namespace sluice::cuda
