// The CUDA kernels but attention's, as the host sees them: plain structs of device pointers, sizes and strides. Shapes
// and formulas are those of backend.h, whose names these functions bear; arguments have been checked. All are
// asynchronous on `stream`, allocate nothing and read nothing back, so that a graph can record them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/op_types.h"

namespace sluice::cuda {

enum class Element : uint8_t { kF32, kBf16 };

// Rows of `cols` elements, `stride` elements apart, in device memory; no data: absent.
struct View {
  void* data = nullptr;
  int64_t rows = 0, cols = 0, stride = 0;
  Element element = Element::kF32;

  explicit operator bool() const { return data != nullptr; }
};

// --- elementwise.cu
// Every element's bits become the low `element_bytes` (2, 4 or 8) of `bits`.
void fill(void* out, int64_t rows, int64_t cols, int64_t stride, int element_bytes, uint64_t bits, cudaStream_t stream);
void copy(const View& out, const View& x, cudaStream_t stream);
void activation_forward(Activation kind, const View& out, const View& x, cudaStream_t stream);
void activation_backward(Activation kind, const View& d_x, const View& d_out, const View& x, const View& out,
                         cudaStream_t stream);
void swiglu_forward(const View& out, const View& x, cudaStream_t stream);
void swiglu_backward(const View& d_x, const View& d_out, const View& x, const View& out, cudaStream_t stream);
// out += bias, where there is one; then activated = f(out), where present: what follows a product that could not be
// fused.
void add_bias_and_activate(const View& out, const float* bias, const View& activated, Activation kind,
                           cudaStream_t stream);
// Whether this build has code for the current device: cudaErrorNoKernelImageForDevice if not.
cudaError_t kernel_image_status();

// --- groups.cu: what works on groups of D columns
struct GateArgs {
  GateGrain grain;
  int64_t heads;
  View x, logits;
};
void gate_forward(const GateArgs& args, const View& out, cudaStream_t stream);
void gate_backward(const GateArgs& args, const View& d_out, const View& d_x, const View& d_logits, cudaStream_t stream);
void group_norms(const View& out, const View& x, int64_t groups, cudaStream_t stream);

// --- heads.cu: what is done to query and key heads before attention
struct HeadNormArgs {
  View x;
  const float* gain;         // [D]
  int64_t D;
  float epsilon;
};
void head_norm_forward(const HeadNormArgs& args, const View& out, cudaStream_t stream);
void head_norm_backward(const HeadNormArgs& args, const View& d_out, const View& d_x, float* d_gain, bool accumulate,
                        float* workspace, cudaStream_t stream);
struct RopeArgs {
  View x, table;             // the table is f32
  int64_t T, first_position;
  bool inverse;
};
void rope(const RopeArgs& args, cudaStream_t stream);

// --- quantize.cu
struct FakeQuantizeArgs {
  View x, out;
  const float* scale;
  bool per_row;              // scale [N], else [1]
  float low, high;
};
void fake_quantize(const FakeQuantizeArgs& args, cudaStream_t stream);
void row_ranges(float* out, const View& x, cudaStream_t stream);

// --- norm.cu
inline constexpr int64_t kRowChunks = 256;  // partial sums over rows at most: the workspace is [kRowChunks][2][C]

struct NormForwardArgs {
  Norm kind;
  View x, delta, sum, out;
  const float *gain, *bias;  // [C]; bias may be null
  float* stats;              // [N, 2]
  float epsilon;
};
struct NormBackwardArgs {
  Norm kind;
  View x, d_out, d_x;
  const float *gain, *stats;
  bool add_to_d_x, accumulate;
  float *d_gain, *d_bias;    // d_bias may be null
  float* workspace;
};
void norm_forward(const NormForwardArgs& args, cudaStream_t stream);
void norm_backward(const NormBackwardArgs& args, cudaStream_t stream);
// out[c] (+)= sum over chunks of partial[chunk * step + c], c < C, in order; the same for a second array C further on, where
// there is one.
void add_chunks(float* first_out, float* second_out, const float* partial, int64_t step, int64_t chunks, int64_t C,
                bool accumulate, cudaStream_t stream);
void bias_gradient(float* d_bias, const View& d_out, bool accumulate, float* workspace, cudaStream_t stream);

// --- embedding.cu
struct Scratch {
  void* data;
  size_t bytes;
};
// A token outside the table gives a row of NaN.
void embedding_forward(const View& out, const int32_t* tokens, const View& table, const float* positions, int64_t T,
                       cudaStream_t stream);
// Adds to d_table. At most kMaxTokens rows; `scratch` holds kEmbeddingScratch bytes or more. Tokens outside the table
// are passed over.
inline constexpr int64_t kMaxTokens = int64_t{1} << 20;
inline constexpr size_t kEmbeddingScratch = size_t{32} << 20;
void embedding_backward_table(const View& d_table, const View& d_out, const int32_t* tokens, const Scratch& scratch,
                              cudaStream_t stream);
void embedding_backward_positions(const View& d_positions, const View& d_out, int64_t T, bool accumulate,
                                  cudaStream_t stream);

// --- loss.cu. A target beyond the vocabulary gives a NaN.
void cross_entropy(float* losses, const View& logits, const int32_t* targets, double grad_scale, cudaStream_t stream);

// --- optimizer.cu
struct ParameterRange {
  float *param, *first_moment, *second_moment;  // [n]; moments may be null for SGD
  const float* grad;
  void* compute_copy;                           // [n] bf16, or null
  int64_t n;
  double weight_decay;
};
void adamw_update(const ParameterRange& range, const AdamWStep& step, cudaStream_t stream);
void sgd_update(const ParameterRange& range, const SgdStep& step, cudaStream_t stream);
inline constexpr int kSumBlocks = 256;
// `scratch` holds kSumBlocks + 1 doubles.
struct MuonMomentumArgs {
  const float* grad;
  float* momentum;
  View out;
  double beta, grad_scale;
  double* scratch;
};
void muon_momentum(const MuonMomentumArgs& args, cudaStream_t stream);
void matrix_sum(const View& out, const View& x, const View& y, double a, double b, double c, cudaStream_t stream);
// partial[kSumBlocks] receives parts of the sum of x, or of x^2: as many as it returns. Their sum in order is the
// result.
int partial_sums(double* partial, const View& x, bool squares, cudaStream_t stream);

}  // namespace sluice::cuda
