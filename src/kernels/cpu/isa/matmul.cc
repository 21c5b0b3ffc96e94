// Matrix product for what oneDNN lacks: f64 (the oracle's precision in tests), and bf16 on processors without AVX-512.
//
// Each task owns a 64 x 64 block of C and walks over K in steps of 64, copying both operands into accumulator tiles, so
// any transposition, stride and edge is handled in the copy.
#include "kernels/cpu/isa/attention_tiles.h"

namespace sluice::SLUICE_ISA {
namespace {

// One operand as the product sees it: element (row, col) of op(X).
template <class S>
struct Operand {
  const S* data;
  int64_t row_stride, col_stride;
};

template <class S>
Operand<S> operand(const Tensor& x, bool transposed) {
  return {x.as<const S>(), transposed ? 1 : x.stride, transposed ? x.stride : 1};
}

// The block at (row, col) as [kBlock, kBlock] accumulators; what lies beyond (rows, cols) is zero.
template <class S>
void copy_block(const Operand<S>& x, int64_t row, int64_t col, int64_t rows, int64_t cols, Acc<S>* out) {
  for (int64_t i = 0; i < kBlock; ++i)
    for (int64_t j = 0; j < kBlock; ++j) {
      const bool inside = row + i < rows && col + j < cols;
      Acc<S> value = 0;
      if (inside) {
        const S stored = x.data[(row + i) * x.row_stride + (col + j) * x.col_stride];
        if constexpr (sizeof(S) == 2) value = to_float(stored);
        else value = stored;
      }
      out[i * kBlock + j] = value;
    }
}

template <class S, class Out>
void store_block(const Matmul& args, const Acc<S>* block, int64_t row, int64_t col, int64_t M, int64_t N) {
  for (int64_t i = 0; i < min_of(kBlock, M - row); ++i) {
    Out* out = args.out.as<Out>() + (row + i) * args.out.stride + col;
    for_vectors<Acc<S>>(min_of(kBlock, N - col), [&](int64_t j, int64_t n) {
      Vec<Acc<S>> sum = load(block + i * kBlock + j);
      if (args.bias) sum += load_some(args.bias.as<const Acc<S>>() + col + j, n);
      if (args.accumulate) sum += load_some(out + j, n);
      store_some(out + j, sum, n);
    });
  }
}

template <class S>
void run(const Matmul& args) {
  using A = Acc<S>;
  const int64_t M = args.out.rows(), N = args.out.cols(), K = args.transpose_a ? args.a.rows() : args.a.cols();
  const Operand<S> a = operand<S>(args.a, args.transpose_a), b = operand<S>(args.b, args.transpose_b);
  const int64_t across = (N + kBlock - 1) / kBlock, down = (M + kBlock - 1) / kBlock;
#pragma omp parallel for schedule(dynamic)
  for (int64_t task = 0; task < across * down; ++task) {
    alignas(64) A left[kBlock * kBlock], right[kBlock * kBlock], sum[kBlock * kBlock] = {};
    const int64_t row = task / across * kBlock, col = task % across * kBlock;
    for (int64_t k = 0; k < K; k += kBlock) {
      copy_block(a, row, k, M, K, left);
      copy_block(b, k, col, K, N, right);
      tile_gemm<A>({left, kBlock, 1, right, kBlock, sum, kBlock, true}, kBlock, kBlock, min_of(kBlock, K - k));
    }
    if (args.out.dtype == args.a.dtype) store_block<S, S>(args, sum, row, col, M, N);
    else store_block<S, A>(args, sum, row, col, M, N);
  }
}

}  // namespace

template <>
void on(const Matmul& op) {
  with_storage(op.a.dtype, [&](auto storage) { run<decltype(storage)>(op); });
}

}  // namespace sluice::SLUICE_ISA
