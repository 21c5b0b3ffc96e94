// CudaBackend: puts the ops' kernels (kernels.h) on its one stream; those that need a library or the host are overloads
// of `on` here. See cuda_backend.h and backend.h.
#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "kernels/cpu/random.h"
#include "kernels/cuda/cudnn_attention.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch_error.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/runtime/graphs.h"
#include "kernels/cuda/runtime/memory.h"

namespace sluice {
namespace {

class CudaBackend final : public Backend {
 public:
  CudaBackend(int device, bool cudnn_attention)
      : description_(describe_device(device)),
        memory_(stream_),
        cudnn_(cudnn_attention ? cuda::make_cudnn_attention(stream_) : nullptr),
        graphs_(stream_),
        products_(stream_),
        scratch_(cuda::kScratchBytes) {
    if (cudnn_) description_ += ", attention by cuDNN " + cuda::cudnn_version();
  }

  ~CudaBackend() override { cudaStreamSynchronize(stream_); }

  // --- the device
  std::string describe() const override { return description_; }
  // A chunk of logits reads and writes the head's gradient anew: few and large ones.
  BackendTraits traits() const override {
    return {.host_memory = false, .chunk_bytes = int64_t{512} << 20, .launches_to_time = 20};
  }
  void* allocate(size_t bytes) override { return memory_.allocate(bytes); }
  void release(void* data) override { memory_.release(data); }
  size_t allocated_bytes() const override { return memory_.allocated_bytes(); }
  void synchronize() override { memory_.synchronize(); }
  void* stream() const override { return static_cast<cudaStream_t>(stream_); }

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

  // --- the ops. CUDA's errors name them.
  void launch(int place, const void* fields) override {
    try {
      Ops::call(place, fields, [this](const auto& op) { on(op); });
    } catch (const cuda::LaunchError& error) {
      throw RunError("CUDA: {}: {}", Ops::kNames[place], error.what());
    }
    if (wait_for_every_op_ && !graphs_.recording()) cuda::check(cudaStreamSynchronize(stream_), Ops::kNames[place]);
  }

  int64_t workspace_of(int place, const void* sizes) const override {
    int64_t elements = 0;
    Ops::call_with_sizes(place, sizes, [&](const auto& of_op) { elements = workspace_for(of_op); });
    return elements;
  }

 private:
  static std::string describe_device(int device) {
    if (const std::string reason = cuda_unavailable_reason(device); !reason.empty()) throw RunError("{}", reason);
    cuda::check(cudaSetDevice(device), "cudaSetDevice");
    const CudaDevice facts = cuda_devices()[size_t(device)];
    return fmt::format("{}, {} multiprocessors, {:.1f} GiB", facts.name, facts.multiprocessors,
                       double(facts.memory_bytes) / double(1 << 30));
  }

  template <class Op>
  void on(const Op& op) {
    cuda::on(op, cuda::Queue{stream_, scratch_.data()});
  }

  // Initial values are drawn on the host, so that they are the same on every device.
  void on(const RandomUniform& op) {
    fill_from_host(op.out, [&](const Tensor& host) { cpu_random_uniform(host, op.seed, op.stream, op.low, op.high); });
  }
  void on(const RandomNormal& op) {
    fill_from_host(op.out,
                   [&](const Tensor& host) { cpu_random_normal(host, op.seed, op.stream, op.mean, op.deviation); });
  }
  template <class Draw>
  void fill_from_host(const Tensor& out, Draw draw) {
    std::vector<char> values(out.bytes());
    const Tensor host(values.data(), out.dtype, out.shape);
    draw(host);
    if (out.contiguous()) return upload(out, values.data());
    for (int64_t row = 0; row < out.rows(); ++row)
      upload(out.row_range(row, 1), values.data() + size_t(row * out.cols()) * size_of(out.dtype));
  }

  void on(const Matmul& op) { products_.run(op); }
  void on(const HeadMatmul& op) { products_.run(op); }

  void on(const AttentionForward& op) {
    if (is_cudnns(op)) cudnn_->forward(op);
    else cuda::on(op, cuda::Queue{stream_, scratch_.data()});
  }
  void on(const AttentionBackward& op) {
    if (is_cudnns(op.forward)) cudnn_->backward(op);
    else cuda::on(op, cuda::Queue{stream_, scratch_.data()});
  }
  bool is_cudnns(const AttentionForward& op) const { return cudnn_ && cuda::cudnn_takes(op); }

  void on(const Sum& op) { *op.result = summed(op.x, false); }
  void on(const SumOfSquares& op) { *op.result = summed(op.x, true); }
  double summed(const Tensor& x, bool squares) {
    const int parts = cuda::partial_sums(static_cast<double*>(scratch_.data()), cuda::view_of(x), squares, stream_);
    double partial[cuda::kSumBlocks];
    download(partial, Tensor(scratch_.data(), DType::kF64, {parts}));
    return std::accumulate(partial, partial + parts, 0.0);
  }

  template <class Sizes>
  int64_t workspace_for(const Sizes& sizes) const {
    return cuda::workspace_for(sizes);
  }
  int64_t workspace_for(const AttentionBackward::Sizes& sizes) const {
    const int64_t own = cuda::workspace_for(sizes);
    if (!cudnn_ || sizes.act != DType::kBF16 || sizes.shape.T < 2) return own;
    return std::max(own, int64_t((cudnn_->workspace_bytes(sizes.shape) + sizeof(float) - 1) / sizeof(float)));
  }

  const bool wait_for_every_op_ = std::getenv("SLUICE_CUDA_SYNC") != nullptr;
  std::string description_;  // first: it opens the device
  cuda::Stream stream_;
  cuda::Memory memory_;
  std::unique_ptr<cuda::CudnnAttention> cudnn_;  // or null: attention is our own. Graphs hold on to its kernels
  cuda::Graphs graphs_;
  cuda::MatrixProducts products_;
  cuda::DeviceBuffer scratch_;
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int device, bool cudnn_attention) {
  return std::make_unique<CudaBackend>(device, cudnn_attention);
}

std::string cudnn_attention_unavailable_reason() { return cuda::cudnn_unavailable_reason(); }

}  // namespace sluice
