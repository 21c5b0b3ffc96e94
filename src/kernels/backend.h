// Backend: every operation a transformer needs, once, with shapes and formulas. CpuBackend and CudaBackend implement all
// of it; the CPU in fp32 is the oracle.
//
// Conventions. Letters: N = B*T rows (tokens), C width, H heads, KV key/value heads, D head size, V vocabulary.
// "act" is the activations' type (f32, bf16 or f64); "acc" is accumulator_of(act) (f32, or f64 for f64). Parameters'
// gradients, optimizer state and statistics are acc. `accumulate` false overwrites, true adds. Tensors may be column
// slices (Tensor::stride) where "strided" is said. Ops are asynchronous on a device: `synchronize` before reading.
// An empty Tensor{} means "absent". Shapes are checked; a mismatch is a bug and throws std::logic_error.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernels/attention_types.h"
#include "kernels/op_types.h"
#include "kernels/tensor.h"

namespace sluice {

// C = op(A) op(B) (+ C if accumulate) (+ bias per column). Row-major, strided.
struct MatmulArgs {
  Tensor out;                    // [M, N], act or acc
  Tensor a, b;                   // op(a) [M, K], op(b) [K, N], act
  bool transpose_a = false, transpose_b = false;
  bool accumulate = false;
  Tensor bias = {};              // [N] acc, or absent
  Tensor activated = {};         // [M, N] like out, or absent: also receives activation(C)
  Activation activation = Activation::kRelu;
};

// A product of each head's own: the tensors of `all` are those of every head side by side, `heads` equal slices of each.
// Activations are cut by columns, the weight, which is b or with transpose_a (its gradient) out, by rows. No `activated`.
struct HeadMatmul {
  MatmulArgs all;
  int64_t heads = 1;

  MatmulArgs of_head(int64_t head) const;
};

struct AttentionForward {
  AttentionSpec spec;
  Tensor q;                      // [N, H*D] act, strided
  Tensor k, v;                   // [N, KV*D] act, strided
  Tensor key_bias, value_bias;   // [KV, D] acc: one extra key every query sees; value absent means zero
  Tensor sink_logit;             // [H] acc, for ScoreKind::kSinkLogit only
  // [N] i32, or absent for 0: row i attends to keys first_key[i] .. i of its sequence, so that documents packed into one
  // do not see each other. 0 <= first_key[i] <= i, never decreasing in a sequence. Row lengths count from there.
  Tensor first_key;
  Tensor out;                    // [N, H*D] act, strided
  Tensor stats;                  // [2, B, H, T] acc: each row's reference m, then the inverses of their normalisers
};

struct AttentionBackward {
  AttentionForward forward;      // as it was run; out and stats hold its results
  Tensor d_out;                  // [N, H*D] act, strided
  Tensor d_q, d_k, d_v;          // like q, k, v; overwritten
  Tensor d_key_bias, d_value_bias, d_sink_logit;  // acc, like their parameters
  bool accumulate = false;       // of the three parameter gradients
  Tensor workspace;              // [attention_workspace(shape, act)] f32
};

// Per query row, for the probes; computed from the same tiles, no [T, T] matrix.
struct AttentionProbe {
  AttentionForward forward;      // stats hold the results of a forward run
  Tensor sink_attention;         // [B, H, T] acc: a_if, f = first_key[i], the first key the row sees
  Tensor sink_logit_gap;         // [B, H, T] acc: s_if - mean over f < j < i of s_ij; 0 for i < f + 2
};

// A decoder's step: one query a sequence against cached keys and values, O = sum over j < length of p_j v_j, as the last row
// of attention_forward over `length` positions.
struct AttentionDecode {
  AttentionSpec spec;            // shape: B sequences, T rows of the cache for each
  int64_t length = 0;            // rows of every sequence that are filled: 1 .. T
  Tensor q;                      // [B, H*D] act, strided
  Tensor k, v;                   // [B*T, KV*D] act, strided
  Tensor key_bias, value_bias, sink_logit;  // as in AttentionForward
  Tensor out;                    // [B, H*D] act, strided
  Tensor workspace;              // [attention_decode_workspace(shape, act)] f32
};

struct NormForward {
  Norm kind = Norm::kLayerNorm;
  double epsilon = 1e-5;
  Tensor x, delta;               // [N, C] act; delta absent or added first: sum = x + delta
  Tensor sum;                    // [N, C] act; where the sum is written (may be x); absent if delta is
  Tensor gain, bias;             // [C] acc; bias may be absent, and is for RMSNorm
  Tensor out;                    // [N, C] act: (sum - mean) * rstd * gain + bias
  Tensor stats;                  // [N, 2] acc: mean (0 for RMSNorm), rstd
};

struct NormBackward {
  NormForward forward;           // x is the normalised input (the sum); stats as left by the forward
  Tensor d_out;                  // [N, C] act
  Tensor d_x;                    // [N, C] act
  bool add_to_d_x = true;        // d_x += (the residual stream's gradient), or overwrite
  Tensor d_gain, d_bias;         // [C] acc
  bool accumulate = false;       // of d_gain, d_bias
  Tensor workspace;              // [norm_workspace(C)] f32
};

// RMSNorm of every head by itself, one gain for all: out = x gain / sqrt(mean over the head's D columns of x^2 + epsilon).
struct HeadNormForward {
  double epsilon = 1e-5;
  Tensor x, out;                 // [N, H*D] act, strided; the same where no backward pass follows
  Tensor gain;                   // [D] acc
};

struct HeadNormBackward {
  HeadNormForward forward;       // x as it was; out is not read
  Tensor d_out;                  // [N, H*D] act, strided
  Tensor d_x;                    // [N, H*D] act, strided; overwritten, may be d_out
  Tensor d_gain;                 // [D] acc
  bool accumulate = false;       // of d_gain
  Tensor workspace;              // [norm_workspace(D)] f32
};

// Rotary positions, in place: features i and i + D/2 of every head are a pair (a, b) that is turned by its row's angle to
// (a cos - b sin, b cos + a sin). `inverse` turns back, which is the gradient.
struct Rope {
  Tensor x;                      // [N, H*D] act, strided; row n is at position first_position + n % T
  Tensor table;                  // [> last position, D] acc: of each position D/2 cosines, then D/2 sines
  int64_t T = 0;
  int64_t first_position = 0;
  bool inverse = false;
};

// out = sigmoid(logits) * x, grain head: logits [N, H], one per D columns; element: logits [N, H*D].
struct GateForward {
  GateGrain grain = GateGrain::kHead;
  int64_t heads = 1;
  Tensor x, logits, out;         // [N, H*D] act, strided; logits act
};

struct GateBackward {
  GateForward forward;           // x and logits as they were
  Tensor d_out;                  // [N, H*D] act, strided
  Tensor d_x;                    // [N, H*D] act, strided; overwritten
  Tensor d_logits;               // like logits; overwritten
};

// One flat range of parameters with its state; every tensor [n] acc.
struct OptimizerRange {
  Tensor param, grad, first_moment, second_moment;  // second_moment absent for SGD
  Tensor compute_copy;           // [n] bf16 copy that matmuls read, or absent
  double weight_decay = 0;
};

// out = scale * clamp(round(x / scale), low, high): simulated quantization, halves to even (formulas/quantize.h).
struct FakeQuantize {
  Tensor x, out;                 // [N, C] act, strided; may be the same
  Tensor scale;                  // [1] acc, or [N]: one for each row
  double low = 0, high = 0;      // integers, counted from the zero point: low <= 0 <= high, below 2^20
};

// Muon's momentum (Nesterov's) and what its iteration starts from: g = grad_scale grad;
// momentum = beta momentum + (1 - beta) g;  u = beta momentum + (1 - beta) g;  out = u / |u|, the Frobenius norm; 0 where u is.
struct MuonMomentum {
  Tensor grad, momentum;         // [R, C] acc, contiguous
  Tensor out;                    // [R, C] act, contiguous
  double beta = 0.95;
  double grad_scale = 1;         // clipping
};

// out = a I + b x + c y, all [n, n] act, contiguous; out may be x or y.
struct MatrixSum {
  Tensor out, x, y;
  double a = 0, b = 1, c = 1;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // --- the device
  virtual std::string describe() const = 0;
  virtual void* allocate(size_t bytes) = 0;                       // 64-byte aligned, zeroed
  virtual void release(void* data) = 0;
  virtual size_t allocated_bytes() const = 0;                     // asked for and not yet released
  virtual void upload(const Tensor& to, const void* from) = 0;    // contiguous; host memory
  virtual void download(void* to, const Tensor& from) = 0;        // strided, arrives packed; synchronises
  virtual void synchronize() = 0;
  // Runs `ops`. Whoever calls again with the same key promises the same ops on the same tensors: a device may record them
  // the first time and replay the record. Inside, nothing is uploaded, downloaded, allocated or read on the host.
  virtual void replay(const std::string& key, const std::function<void()>& ops) = 0;

  // --- filling and copying
  virtual void fill(const Tensor& out, double value) = 0;
  virtual void copy(const Tensor& out, const Tensor& x) = 0;      // converts types; strided
  // Element i draws from (seed, stream, i): uniform in [low, high), or normal.
  virtual void random_uniform(const Tensor& out, uint64_t seed, uint64_t stream, double low, double high) = 0;
  virtual void random_normal(const Tensor& out, uint64_t seed, uint64_t stream, double mean, double deviation) = 0;

  // --- embedding: out[n] = table[tokens[n]] + positions[n % T]; positions [>= T, C] or absent
  virtual void embedding_forward(const Tensor& out, const Tensor& tokens, const Tensor& table, const Tensor& positions,
                                 int64_t T) = 0;
  virtual void embedding_backward(const Tensor& d_table, const Tensor& d_positions, const Tensor& d_out,
                                  const Tensor& tokens, int64_t T, bool accumulate_table, bool accumulate_positions) = 0;

  // --- norms, fused with the residual addition before them
  virtual void norm_forward(const NormForward& args) = 0;
  virtual void norm_backward(const NormBackward& args) = 0;
  virtual int64_t norm_workspace(int64_t C) const = 0;            // f32 elements; also enough for bias_gradient

  // --- linear algebra
  virtual void matmul(const MatmulArgs& args) = 0;
  virtual void head_matmul(const HeadMatmul& args) = 0;
  virtual void bias_gradient(const Tensor& d_bias, const Tensor& d_out, bool accumulate, const Tensor& workspace) = 0;

  // --- MLP
  virtual void activation_forward(Activation kind, const Tensor& out, const Tensor& x) = 0;
  // d_x = d_out * f'(x); `out`, where present, also receives f(x) again. d_x may be d_out, out may be x.
  virtual void activation_backward(Activation kind, const Tensor& d_x, const Tensor& d_out, const Tensor& x,
                                   const Tensor& out) = 0;

  // SwiGLU: out = silu(gate) * up;  x [N, 2F] act is (gate, up), out [N, F] act; strided
  virtual void swiglu_forward(const Tensor& out, const Tensor& x) = 0;
  // d_x [N, 2F] from d_out [N, F]; `out`, where present, receives the result again. d_x may be x, out may be d_out.
  virtual void swiglu_backward(const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& out) = 0;

  // --- attention, causal
  virtual void head_norm_forward(const HeadNormForward& args) = 0;
  virtual void head_norm_backward(const HeadNormBackward& args) = 0;
  virtual void rope(const Rope& args) = 0;
  virtual void attention_forward(const AttentionForward& args) = 0;
  virtual void attention_backward(const AttentionBackward& args) = 0;
  virtual void attention_probe(const AttentionProbe& args) = 0;
  virtual int64_t attention_workspace(const AttentionShape& shape, DType act) const = 0;  // f32 elements
  virtual void attention_decode(const AttentionDecode& args) = 0;
  virtual int64_t attention_decode_workspace(const AttentionShape& shape, DType act) const = 0;  // f32 elements
  virtual void gate_forward(const GateForward& args) = 0;
  virtual void gate_backward(const GateBackward& args) = 0;

  // --- loss: losses[n] = -log softmax(logits[n])[targets[n]]; where `grad_scale` is not 0 the logits become their
  // gradient times grad_scale, in place. logits [N, V] act, losses [N] acc, targets [N] i32 (negative: ignored, loss 0).
  virtual void cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets, double grad_scale) = 0;

  // --- optimizer
  virtual void adamw_update(const OptimizerRange& range, const AdamWStep& step) = 0;
  virtual void sgd_update(const OptimizerRange& range, const SgdStep& step) = 0;
  virtual void muon_momentum(const MuonMomentum& args) = 0;
  virtual void matrix_sum(const MatrixSum& args) = 0;
  virtual double sum_of_squares(const Tensor& x) = 0;             // deterministic; synchronises
  virtual double sum(const Tensor& x) = 0;                        // deterministic; synchronises

  // --- diagnostics: out[n] = |x[n]|_2, per group of D columns: x [N, G*D] act, strided; out [N, G] acc
  virtual void group_norms(const Tensor& out, const Tensor& x, int64_t groups) = 0;

  // --- quantization
  virtual void fake_quantize(const FakeQuantize& args) = 0;
  // out[n] = the least and the greatest element of x[n], both NaN where one is not finite; x [N, C] act, strided;
  // out [N, 2] acc
  virtual void row_ranges(const Tensor& out, const Tensor& x) = 0;

  // --- for libraries that put work of their own between ops: the queue of these, a cudaStream_t. Null where ops run at once,
  // in host memory.
  virtual void* stream() const { return nullptr; }
};

std::unique_ptr<Backend> make_cpu_backend();

}  // namespace sluice
