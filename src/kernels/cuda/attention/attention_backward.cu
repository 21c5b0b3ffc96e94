// Attention backward: the workspace, the order of the kernels, and the parameters' gradients from the blocks' shares.
#include "kernels/cuda/attention/attention_backward.cuh"

namespace sluice::cuda {
namespace {

// Where things lie in the workspace, in f32 elements.
struct Workspace {
  int64_t padded_T, blocks, bias_shares, learned_shares, total;

  Workspace(const AttentionShape& s, int rows_of_block)
      : padded_T(padded_rows(s.T)), blocks((s.T + rows_of_block - 1) / rows_of_block) {
    bias_shares = s.B * s.H * padded_T * 4;
    learned_shares = bias_shares + s.B * s.H * blocks * (s.D_qk + s.D_v);
    total = learned_shares + kMostLearned * s.B * blocks * s.H;
  }
};

template <class S>
int rows_of_block(const AttentionShape& s) {
  return std::max(s.D_qk, s.D_v) <= 128 ? BackwardTiling<S, 128>::kRows : BackwardTiling<S, 256>::kRows;
}

inline constexpr int kSumWarps = 8, kSumThreads = kSumWarps * kWarp;

// out[c] = (add ? out[c] : 0) + factor * sum over rows of x[row * stride + c]. A warp takes every eighth row, a
// lane one column; the order of the sum depends on the shape alone.
__global__ void __launch_bounds__(kSumThreads)
    sum_columns_kernel(float* out, const float* x, int64_t rows, int64_t stride, int columns, float factor, bool add) {
  __shared__ float sums[kSumWarps][kWarp];
  const int lane = lane_index(), column = int(blockIdx.x) * kWarp + lane;
  float sum = 0;
  if (column < columns) {
#pragma unroll 4
    for (int64_t row = warp_index(); row < rows; row += kSumWarps) sum += x[row * stride + column];
  }
  sums[warp_index()][lane] = sum;
  __syncthreads();
  if (warp_index() == 0 && column < columns) {
    float total = 0;
    for (int warp = 0; warp < kSumWarps; ++warp) total += sums[warp][lane];
    out[column] = (add ? out[column] : 0.0f) + factor * total;
  }
}

void sum_columns(float* out, const float* x, int64_t rows, int64_t stride, int64_t columns, float factor, bool add,
                 cudaStream_t stream) {
  const dim3 grid(unsigned((columns + kWarp - 1) / kWarp));
  launch(sum_columns_kernel, grid, dim3(kSumThreads), 0, stream, out, x, rows, stride, int(columns), factor, add);
}

template <class S>
void backward(const AttentionBackward& op, cudaStream_t stream) {
  const AttentionForward& in = op.forward;
  const AttentionShape& s = in.spec.shape;
  const Workspace layout(s, rows_of_block<S>(s));
  const bool vectors = allow_vectors<S>(s, in.q, in.k, in.v, in.out, op.d_out, op.d_q, op.d_k, op.d_v);
  float *workspace = floats(op.workspace), *stats = floats(in.stats);
  const BackwardProblem<S> p{problem_of(in, in.first_key, vectors),
                             rows_of<const S>(in.q),
                             rows_of<const S>(in.k),
                             rows_of<const S>(in.v),
                             rows_of<const S>(in.out),
                             rows_of<const S>(op.d_out),
                             rows_of<S>(op.d_q),
                             rows_of<S>(op.d_k),
                             rows_of<S>(op.d_v),
                             stats,
                             stats + s.B * s.H * s.T,
                             reinterpret_cast<float4*>(workspace),
                             workspace + layout.bias_shares,
                             workspace + layout.learned_shares,
                             int(layout.padded_T)};
  backward_queries(p, stream);
  backward_keys(p, stream);

  const int64_t rows = s.B * (s.H / s.KV) * layout.blocks, keys = s.KV * s.D_qk, values = s.KV * s.D_v;
  if (float* to = floats(op.d_key_bias))
    sum_columns(to, p.bias_shares, rows, keys + values, keys, p.scale, op.accumulate, stream);
  if (float* to = floats(op.d_value_bias))
    sum_columns(to, p.bias_shares + keys, rows, keys + values, values, 1, op.accumulate, stream);
  for (int i = 0; i < kMostLearned; ++i)
    if (float* to = floats(op.d_learned.at[i]))
      sum_columns(to, p.learned_shares + i * s.B * layout.blocks * s.H, s.B * layout.blocks, s.H, s.H, 1, op.accumulate,
                  stream);
}

}  // namespace

template <>
void on(const AttentionBackward& op, const Queue& queue) {
  with_element(view_of(op.forward.q).element, [&](auto element) { backward<decltype(element)>(op, queue.stream); });
}

template <>
int64_t workspace_for(const AttentionBackward::Sizes& sizes) {
  const AttentionShape& s = sizes.shape;
  return Workspace(s, sizes.act == DType::kBF16 ? rows_of_block<Bf16>(s) : rows_of_block<float>(s)).total;
}

}  // namespace sluice::cuda
