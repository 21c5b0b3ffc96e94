// CudaBackend: checks arguments, unpacks tensors, and puts kernels on its one stream. See cuda_backend.h and backend.h.
#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/checks.h"
#include "kernels/cpu/random.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cudnn_attention.h"
#include "kernels/cuda/graphs.h"
#include "kernels/cuda/launch_error.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/views.h"

namespace sluice {
namespace {

using cuda::View;
using cuda::view_of;

// The bits of one element.
uint64_t bits_of(DType type, double value) {
  uint64_t bits = 0;
  const auto put = [&](auto x) { std::memcpy(&bits, &x, sizeof x); };
  switch (type) {
    case DType::kF32: put(float(value)); break;
    case DType::kBF16: put(to_bf16(float(value))); break;
    case DType::kF64: put(value); break;
    case DType::kI32: put(int32_t(value)); break;
  }
  return bits;
}

// A parameter, gradient or statistic: f32, or null where absent.
float* floats(const Tensor& t) {
  check(!t || t.dtype == DType::kF32, "the CUDA backend computes in f32 and bf16 only");
  return t.as<float>();
}

// What the kernels of whole sequences and of one new token have in common.
template <class KernelArgs, class Args>
KernelArgs attention_inputs(const Args& args) {
  KernelArgs out;
  out.spec = args.spec;
  out.q = view_of(args.q);
  out.k = view_of(args.k);
  out.v = view_of(args.v);
  out.key_bias = floats(args.key_bias);
  out.value_bias = floats(args.value_bias);
  out.sink_logit = floats(args.sink_logit);
  out.out = view_of(args.out);
  return out;
}

cuda::AttentionForwardArgs attention_args(const AttentionForward& args) {
  auto out = attention_inputs<cuda::AttentionForwardArgs>(args);
  out.first_key = args.first_key.as<int32_t>();
  out.stats = floats(args.stats);
  return out;
}

cuda::HeadNormArgs head_norm_args(const HeadNormForward& args) {
  return {view_of(args.x), floats(args.gain), args.gain.elements(), float(args.epsilon)};
}

cuda::ParameterRange range_of(const OptimizerRange& range) {
  return {floats(range.param), floats(range.first_moment),  floats(range.second_moment), floats(range.grad),
          range.compute_copy.data, range.param.elements(), range.weight_decay};
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(int device, bool cudnn_attention)
      : description_(describe_device(device)),
        memory_(stream_),
        cudnn_(cudnn_attention ? cuda::make_cudnn_attention(stream_) : nullptr),
        graphs_(stream_),
        matmul_(stream_),
        scratch_(cuda::kEmbeddingScratch) {
    if (cudnn_) description_ += ", attention by cuDNN " + cuda::cudnn_version();
  }

  ~CudaBackend() override { cudaStreamSynchronize(stream_); }

  void* stream() const override { return static_cast<cudaStream_t>(stream_); }

  // --- the device
  std::string describe() const override { return description_; }
  void* allocate(size_t bytes) override { return memory_.allocate(bytes); }
  void release(void* data) override { memory_.release(data); }
  size_t allocated_bytes() const override { return memory_.allocated_bytes(); }
  void synchronize() override { memory_.synchronize(); }

  void upload(const Tensor& to, const void* from) override {
    check_upload(to);
    check(!graphs_.recording(), "upload: a record cannot contain one");
    memory_.upload(to, from);
  }

  void download(void* to, const Tensor& from) override {
    check(bool(from), "download: the tensor is absent");
    check(!graphs_.recording(), "download: a record cannot contain one");
    memory_.download(to, from);
  }

  void replay(const std::string& key, const std::function<void()>& ops) override {
    if (wait_for_every_op_) ops();
    else graphs_.run(key, ops);
  }

  // --- filling and copying
  void fill(const Tensor& out, double value) override {
    check(bool(out), "fill: out is absent");
    put("fill", [&] {
      cuda::fill(out.data, out.rows(), out.cols(), out.stride, int(size_of(out.dtype)), bits_of(out.dtype, value),
                 stream_);
    });
  }

  void copy(const Tensor& out, const Tensor& x) override {
    check_copy(out, x);
    put("copy", [&] { cuda::copy(view_of(out), view_of(x), stream_); });
  }

  void random_uniform(const Tensor& out, uint64_t seed, uint64_t stream, double low, double high) override {
    check_random(out);
    fill_from_host(out, [&](const Tensor& host) { cpu_random_uniform(host, seed, stream, low, high); });
  }

  void random_normal(const Tensor& out, uint64_t seed, uint64_t stream, double mean, double deviation) override {
    check_random(out);
    fill_from_host(out, [&](const Tensor& host) { cpu_random_normal(host, seed, stream, mean, deviation); });
  }

  // --- embedding
  void embedding_forward(const Tensor& out, const Tensor& tokens, const Tensor& table, const Tensor& positions,
                         int64_t T) override {
    check_embedding_forward(out, tokens, table, positions, T);
    put("embedding_forward", [&] {
      cuda::embedding_forward(view_of(out), tokens.as<int32_t>(), view_of(table), floats(positions), T, stream_);
    });
  }

  void embedding_backward(const Tensor& d_table, const Tensor& d_positions, const Tensor& d_out, const Tensor& tokens,
                          int64_t T, bool accumulate_table, bool accumulate_positions) override {
    check_embedding_backward(d_table, d_positions, d_out, tokens, T);
    put("embedding_backward", [&] {
      if (!accumulate_table)
        cuda::check(cudaMemsetAsync(d_table.data, 0, d_table.bytes(), stream_), "cudaMemset");
      for (int64_t first = 0; first < d_out.rows(); first += cuda::kMaxTokens)
        cuda::embedding_backward_table(
            view_of(d_table), view_of(d_out.row_range(first, std::min(cuda::kMaxTokens, d_out.rows() - first))),
            tokens.as<int32_t>() + first, {scratch_.data(), scratch_.bytes()}, stream_);
      if (d_positions)
        cuda::embedding_backward_positions(view_of(d_positions), view_of(d_out), T, accumulate_positions, stream_);
    });
  }

  // --- norms
  void norm_forward(const NormForward& args) override {
    check_norm_forward(args);
    put("norm_forward", [&] {
      cuda::norm_forward({args.kind, view_of(args.x), view_of(args.delta), view_of(args.sum), view_of(args.out),
                          floats(args.gain), floats(args.bias), floats(args.stats), float(args.epsilon)},
                         stream_);
    });
  }

  void norm_backward(const NormBackward& args) override {
    check_norm_backward(args);
    check_workspace("norm_backward", args.workspace, norm_workspace(args.d_out.cols()));
    const NormForward& forward = args.forward;
    put("norm_backward", [&] {
      cuda::norm_backward({forward.kind, view_of(forward.x), view_of(args.d_out), view_of(args.d_x), floats(forward.gain),
                           floats(forward.stats), args.add_to_d_x, args.accumulate, floats(args.d_gain),
                           floats(args.d_bias), floats(args.workspace)},
                          stream_);
    });
  }

  int64_t norm_workspace(int64_t C) const override { return cuda::kRowChunks * 2 * C; }

  // --- linear algebra
  void matmul(const MatmulArgs& args) override {
    check_matmul(args);
    put("matmul", [&] { matmul_.run(args); });
  }

  void head_matmul(const HeadMatmul& args) override {
    check_head_matmul(args);
    put("head_matmul", [&] { matmul_.run(args); });
  }

  void bias_gradient(const Tensor& d_bias, const Tensor& d_out, bool accumulate, const Tensor& workspace) override {
    check_bias_gradient(d_bias, d_out);
    check_workspace("bias_gradient", workspace, norm_workspace(d_out.cols()));
    put("bias_gradient",
        [&] { cuda::bias_gradient(floats(d_bias), view_of(d_out), accumulate, floats(workspace), stream_); });
  }

  // --- MLP
  void activation_forward(Activation kind, const Tensor& out, const Tensor& x) override {
    check_activation_forward(out, x);
    put("activation_forward", [&] { cuda::activation_forward(kind, view_of(out), view_of(x), stream_); });
  }

  void activation_backward(Activation kind, const Tensor& d_x, const Tensor& d_out, const Tensor& x,
                           const Tensor& out) override {
    check_activation_backward(d_x, d_out, x, out);
    put("activation_backward", [&] {
      cuda::activation_backward(kind, view_of(d_x), view_of(d_out), view_of(x), view_of(out), stream_);
    });
  }

  void swiglu_forward(const Tensor& out, const Tensor& x) override {
    check_swiglu_forward(out, x);
    put("swiglu_forward", [&] { cuda::swiglu_forward(view_of(out), view_of(x), stream_); });
  }

  void swiglu_backward(const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& out) override {
    check_swiglu_backward(d_x, d_out, x, out);
    put("swiglu_backward",
        [&] { cuda::swiglu_backward(view_of(d_x), view_of(d_out), view_of(x), view_of(out), stream_); });
  }

  // --- attention
  void head_norm_forward(const HeadNormForward& args) override {
    check_head_norm_forward(args);
    put("head_norm_forward", [&] { cuda::head_norm_forward(head_norm_args(args), view_of(args.out), stream_); });
  }

  void head_norm_backward(const HeadNormBackward& args) override {
    check_head_norm_backward(args);
    check_workspace("head_norm_backward", args.workspace, norm_workspace(args.d_gain.elements()));
    put("head_norm_backward", [&] {
      cuda::head_norm_backward(head_norm_args(args.forward), view_of(args.d_out), view_of(args.d_x), floats(args.d_gain),
                               args.accumulate, floats(args.workspace), stream_);
    });
  }

  void rope(const Rope& args) override {
    check_rope(args);
    put("rope", [&] {
      cuda::rope({view_of(args.x), view_of(args.table), args.T, args.first_position, args.inverse}, stream_);
    });
  }

  void attention_forward(const AttentionForward& args) override {
    check_attention_forward(args);
    put("attention_forward", [&] {
      if (is_cudnns(args)) cudnn_->forward(args);
      else cuda::attention_forward(attention_args(args), stream_);
    });
  }

  void attention_backward(const AttentionBackward& args) override {
    check_attention_backward(args);
    if (is_cudnns(args.forward)) return put("attention_backward", [&] { cudnn_->backward(args); });
    check_workspace("attention_backward", args.workspace,
                    cuda::attention_workspace(args.forward.spec.shape, args.forward.q.dtype == DType::kBF16));
    put("attention_backward", [&] {
      cuda::AttentionBackwardArgs out;
      out.forward = attention_args(args.forward);
      out.d_out = view_of(args.d_out);
      out.d_q = view_of(args.d_q);
      out.d_k = view_of(args.d_k);
      out.d_v = view_of(args.d_v);
      out.d_key_bias = floats(args.d_key_bias);
      out.d_value_bias = floats(args.d_value_bias);
      out.d_sink_logit = floats(args.d_sink_logit);
      out.accumulate = args.accumulate;
      out.workspace = floats(args.workspace);
      cuda::attention_backward(out, stream_);
    });
  }

  void attention_probe(const AttentionProbe& args) override {
    check_attention_probe(args);
    put("attention_probe", [&] {
      cuda::attention_probe({attention_args(args.forward), floats(args.sink_attention), floats(args.sink_logit_gap)},
                            stream_);
    });
  }

  int64_t attention_workspace(const AttentionShape& shape, DType act) const override {
    const int64_t own = cuda::attention_workspace(shape, act == DType::kBF16);
    if (!cudnn_ || act != DType::kBF16 || shape.T < 2) return own;
    return std::max(own, int64_t((cudnn_->workspace_bytes(shape) + sizeof(float) - 1) / sizeof(float)));
  }

  void attention_decode(const AttentionDecode& args) override {
    check_attention_decode(args);
    check_workspace("attention_decode", args.workspace, attention_decode_workspace(args.spec.shape, args.q.dtype));
    put("attention_decode", [&] {
      auto out = attention_inputs<cuda::AttentionDecodeArgs>(args);
      out.length = args.length;
      out.workspace = floats(args.workspace);
      cuda::attention_decode(out, stream_);
    });
  }

  int64_t attention_decode_workspace(const AttentionShape& shape, DType) const override {
    return cuda::attention_decode_workspace(shape);
  }

  void gate_forward(const GateForward& args) override {
    check_gate_forward(args);
    put("gate_forward", [&] {
      cuda::gate_forward({args.grain, args.heads, view_of(args.x), view_of(args.logits)}, view_of(args.out), stream_);
    });
  }

  void gate_backward(const GateBackward& args) override {
    check_gate_backward(args);
    const GateForward& forward = args.forward;
    put("gate_backward", [&] {
      cuda::gate_backward({forward.grain, forward.heads, view_of(forward.x), view_of(forward.logits)},
                          view_of(args.d_out), view_of(args.d_x), view_of(args.d_logits), stream_);
    });
  }

  // --- loss
  void cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets, double grad_scale) override {
    check_cross_entropy(losses, logits, targets);
    put("cross_entropy",
        [&] { cuda::cross_entropy(floats(losses), view_of(logits), targets.as<int32_t>(), grad_scale, stream_); });
  }

  // --- optimizer
  void adamw_update(const OptimizerRange& range, const AdamWStep& step) override {
    check_adamw_update(range, step);
    put("adamw_update", [&] { cuda::adamw_update(range_of(range), step, stream_); });
  }

  void sgd_update(const OptimizerRange& range, const SgdStep& step) override {
    check_sgd_update(range, step);
    put("sgd_update", [&] { cuda::sgd_update(range_of(range), step, stream_); });
  }

  void muon_momentum(const MuonMomentum& args) override {
    check_muon_momentum(args);
    put("muon_momentum", [&] {
      cuda::muon_momentum({floats(args.grad), floats(args.momentum), view_of(args.out), args.beta, args.grad_scale,
                           static_cast<double*>(scratch_.data())},
                          stream_);
    });
  }

  void matrix_sum(const MatrixSum& args) override {
    check_matrix_sum(args);
    put("matrix_sum",
        [&] { cuda::matrix_sum(view_of(args.out), view_of(args.x), view_of(args.y), args.a, args.b, args.c, stream_); });
  }

  double sum_of_squares(const Tensor& x) override { return summed("sum_of_squares", x, true); }
  double sum(const Tensor& x) override { return summed("sum", x, false); }

  // --- diagnostics
  void group_norms(const Tensor& out, const Tensor& x, int64_t groups) override {
    check_group_norms(out, x, groups);
    put("group_norms", [&] { cuda::group_norms(view_of(out), view_of(x), groups, stream_); });
  }

  // --- quantization
  void fake_quantize(const FakeQuantize& args) override {
    check_fake_quantize(args);
    put("fake_quantize", [&] {
      cuda::fake_quantize({view_of(args.x), view_of(args.out), floats(args.scale), args.scale.elements() > 1,
                           float(args.low), float(args.high)},
                          stream_);
    });
  }

  void row_ranges(const Tensor& out, const Tensor& x) override {
    check_row_ranges(out, x);
    put("row_ranges", [&] { cuda::row_ranges(floats(out), view_of(x), stream_); });
  }

 private:
  static std::string describe_device(int device) {
    if (const std::string reason = cuda_unavailable_reason(device); !reason.empty()) throw RunError("{}", reason);
    cuda::check(cudaSetDevice(device), "cudaSetDevice");
    const CudaDevice facts = cuda_devices()[size_t(device)];
    return fmt::format("{}, {} multiprocessors, {:.1f} GiB", facts.name, facts.multiprocessors,
                       double(facts.memory_bytes) / double(1 << 30));
  }

  static void check_workspace(const char* op, const Tensor& workspace, int64_t needed) {
    if (!workspace || workspace.bytes() < size_t(needed) * sizeof(float))
      throw std::logic_error(fmt::format("{}: the workspace has {} bytes, {} are needed", op,
                                         workspace ? workspace.bytes() : 0, size_t(needed) * sizeof(float)));
  }

  // Puts an op's work on the stream; CUDA's errors name the op.
  template <class Work>
  void put(const char* op, Work work) {
    try {
      work();
    } catch (const cuda::LaunchError& error) {
      throw RunError("CUDA: {}: {}", op, error.what());
    }
    if (wait_for_every_op_ && !graphs_.recording()) cuda::check(cudaStreamSynchronize(stream_), op);
  }

  // Initial values are drawn on the host, so that they are the same on every device.
  template <class Draw>
  void fill_from_host(const Tensor& out, Draw draw) {
    std::vector<char> values(out.bytes());
    const Tensor host(values.data(), out.dtype, out.shape);
    draw(host);
    if (out.contiguous()) return upload(out, values.data());
    for (int64_t row = 0; row < out.rows(); ++row)
      upload(out.row_range(row, 1), values.data() + size_t(row * out.cols()) * size_of(out.dtype));
  }

  double summed(const char* op, const Tensor& x, bool squares) {
    check_sum(x);
    int parts = 0;
    put(op, [&] { parts = cuda::partial_sums(static_cast<double*>(scratch_.data()), view_of(x), squares, stream_); });
    double partial[cuda::kSumBlocks];
    download(partial, Tensor(scratch_.data(), DType::kF64, {parts}));
    return std::accumulate(partial, partial + parts, 0.0);
  }

  bool is_cudnns(const AttentionForward& args) const { return cudnn_ && cuda::cudnn_takes(args); }

  const bool wait_for_every_op_ = std::getenv("SLUICE_CUDA_SYNC") != nullptr;
  std::string description_;  // first: it opens the device
  cuda::Stream stream_;
  cuda::Memory memory_;
  std::unique_ptr<cuda::CudnnAttention> cudnn_;  // or null: attention is our own. Graphs hold on to its kernels
  cuda::Graphs graphs_;
  cuda::Matmul matmul_;
  cuda::DeviceBuffer scratch_;
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int device, bool cudnn_attention) {
  return std::make_unique<CudaBackend>(device, cudnn_attention);
}

std::string cudnn_attention_unavailable_reason() { return cuda::cudnn_unavailable_reason(); }

}  // namespace sluice
