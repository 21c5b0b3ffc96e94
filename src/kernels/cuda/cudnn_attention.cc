// cuDNN's attention: the library is loaded, a graph is prepared for each shape, and run (cudnn_attention.h).
#include "kernels/cuda/cudnn_attention.h"

#include "base/error.h"

#if SLUICE_WITH_CUDNN

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "kernels/cuda/kernels.h"

// The frontend calls cuDNN through this handle, so that the program runs without the library too.
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>
#include <dlfcn.h>

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;
}

namespace sluice::cuda {
namespace {

namespace fe = cudnn_frontend;
namespace graph = cudnn_frontend::graph;

static_assert(CUDNN_VERSION >= 90000 && CUDNN_FRONTEND_VERSION >= 11400,
              "cuDNN 9 and cudnn-frontend 1.14 or newer are needed");

constexpr int kLeastVersion = 90000;
constexpr size_t kAlignment = 256;  // of the backward pass's workspace, as CUDA's allocations have it

// Loads the library. The frontend looks for CUDA's runtime by itself: the one that this program uses is the right one.
std::string load_library() try {
  setenv("CUDNN_FRONTEND_CUDART_LIB_NAME", fmt::format("libcudart.so.{}", CUDART_VERSION / 1000).c_str(), 0);
  fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_GLOBAL);
  if (!fe::cudnn_dlhandle) return fmt::format("cuDNN cannot be loaded: {}", dlerror());
  if (fe::detail::get_backend_version() < kLeastVersion)
    return fmt::format("cuDNN is version {}, too old", fe::detail::get_backend_version());
  return "";
} catch (const std::runtime_error& error) {  // of the frontend, where a symbol is missing
  return fmt::format("cuDNN cannot be used: {}", error.what());
}

// Names of a graph's tensors.
enum Uid : int64_t { kQ = 1, kK, kV, kOut, kStats, kDOut, kDQ, kDK, kDV };

// The first line of what it says; its logs tell the rest.
void check_graph(fe::error_t error) {
  if (!error.is_bad()) return;
  const std::string text = error.get_message(), line = text.substr(0, text.find('\n')),
                    label = "[cudnn_frontend] Error: ";
  throw RunError("cuDNN says: {} (CUDNN_LOGLEVEL_DBG=2 CUDNN_LOGDEST_DBG=stderr tells more)",
                 line.rfind(label, 0) == 0 ? line.substr(label.size()) : line);
}

// What a prepared pass depends on.
struct Key {
  bool backward;
  std::array<int64_t, 14> sizes;  // B, T, H, KV, D_qk, D_v, strides of q, k, v, out, d_out, d_q, d_k, d_v
  double scale;
  auto operator<=>(const Key&) const = default;
};

Key key_of(const AttentionForward& args) {
  const auto [B, T, H, KV, D_qk, D_v] = args.spec.shape;
  return {
      false, {B, T, H, KV, D_qk, D_v, args.q.stride, args.k.stride, args.v.stride, args.out.stride}, args.spec.scale};
}

Key key_of(const AttentionBackward& args) {
  Key key = key_of(args.forward);
  key.backward = true;
  const std::array strides{args.d_out.stride, args.d_q.stride, args.d_k.stride, args.d_v.stride};
  std::copy(strides.begin(), strides.end(), key.sizes.begin() + 10);
  return key;
}

// cuDNN counts sequence, head, position, feature.
graph::Tensor_attributes heads_of(Uid uid, const AttentionShape& s, int64_t heads, int64_t D, int64_t stride) {
  return graph::Tensor_attributes()
      .set_uid(uid)
      .set_data_type(fe::DataType_t::BFLOAT16)
      .set_dim({s.B, heads, s.T, D})
      .set_stride({s.T * stride, D, stride, 1});
}

graph::Tensor_attributes stats_of(const AttentionShape& s) {
  return graph::Tensor_attributes()
      .set_uid(kStats)
      .set_data_type(fe::DataType_t::FLOAT)
      .set_dim({s.B, s.H, s.T, 1})
      .set_stride({s.H * s.T, s.T, 1, 1});
}

void set_output(const std::shared_ptr<graph::Tensor_attributes>& tensor, const graph::Tensor_attributes& as) {
  tensor->set_output(true).set_uid(as.get_uid()).set_data_type(as.get_data_type());
  tensor->set_dim(as.get_dim()).set_stride(as.get_stride());
}

// A pass of given sizes, compiled for this GPU.
class Prepared {
 public:
  Prepared(const AttentionForward& args, cudnnHandle_t handle) {
    const AttentionShape& s = args.spec.shape;
    const auto [q, k, v] = inputs(args);
    const auto [out, stats] = graph_.sdpa(
        q, k, v,
        graph::SDPA_attributes().set_generate_stats(true).set_attn_scale(float(args.spec.scale)).set_causal_mask(true));
    set_output(out, heads_of(kOut, s, s.H, s.D_v, args.out.stride));
    set_output(stats, stats_of(s));
    build(handle);
    own_workspace_.emplace(std::max<size_t>(workspace_bytes_, 1));
  }

  Prepared(const AttentionBackward& args, cudnnHandle_t handle) {
    const AttentionShape& s = args.forward.spec.shape;
    const auto [q, k, v] = inputs(args.forward);
    const auto [d_q, d_k, d_v] = graph_.sdpa_backward(
        q, k, v, graph_.tensor(heads_of(kOut, s, s.H, s.D_v, args.forward.out.stride)),
        graph_.tensor(heads_of(kDOut, s, s.H, s.D_v, args.d_out.stride)), graph_.tensor(stats_of(s)),
        graph::SDPA_backward_attributes()
            .set_attn_scale(float(args.forward.spec.scale))
            .set_causal_mask(true)
            .set_deterministic_algorithm(true));
    set_output(d_q, heads_of(kDQ, s, s.H, s.D_qk, args.d_q.stride));
    set_output(d_k, heads_of(kDK, s, s.KV, s.D_qk, args.d_k.stride));
    set_output(d_v, heads_of(kDV, s, s.KV, s.D_v, args.d_v.stride));
    build(handle);
  }

  size_t workspace_bytes() const { return workspace_bytes_; }

  // `workspace` is the backward pass's; the forward pass, which needs little, has its own, so that its address stays.
  void run(cudnnHandle_t handle, std::unordered_map<int64_t, void*> tensors, void* workspace) const {
    check_graph(graph_.execute(handle, tensors, own_workspace_ ? own_workspace_->data() : workspace));
  }

 private:
  std::array<std::shared_ptr<graph::Tensor_attributes>, 3> inputs(const AttentionForward& args) {
    const AttentionShape& s = args.spec.shape;
    graph_.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    return {graph_.tensor(heads_of(kQ, s, s.H, s.D_qk, args.q.stride)),
            graph_.tensor(heads_of(kK, s, s.KV, s.D_qk, args.k.stride)),
            graph_.tensor(heads_of(kV, s, s.KV, s.D_v, args.v.stride))};
  }

  void build(cudnnHandle_t handle) {
    check_graph(graph_.build(handle, {fe::HeurMode_t::A}));
    int64_t bytes = 0;
    check_graph(graph_.get_workspace_size(bytes));
    workspace_bytes_ = size_t(bytes);
  }

  graph::Graph graph_;
  size_t workspace_bytes_ = 0;
  std::optional<DeviceBuffer> own_workspace_;
};

class LoadedCudnn final : public CudnnAttention {
 public:
  explicit LoadedCudnn(const Stream& stream) : stream_(stream) {
    if (const std::string reason = cudnn_unavailable_reason(); !reason.empty()) throw RunError("{}", reason);
    if (fe::detail::create_handle(&handle_) != CUDNN_STATUS_SUCCESS ||
        fe::detail::set_stream(handle_, stream) != CUDNN_STATUS_SUCCESS)
      throw RunError("cuDNN {} does not start on this GPU", cudnn_version());
  }
  ~LoadedCudnn() override {
    prepared_.clear();
    fe::detail::destroy_handle(handle_);
  }
  LoadedCudnn(const LoadedCudnn&) = delete;
  LoadedCudnn& operator=(const LoadedCudnn&) = delete;

  size_t workspace_bytes(const AttentionShape& shape) override {
    try {
      const AttentionBackward args = side_by_side(shape);
      prepare(args.forward);
      return prepare(args).workspace_bytes() + kAlignment;
    } catch (const std::runtime_error& error) {  // RunError, or the frontend's own
      throw UserError(
          "train.attention_backend is cudnn, but cuDNN {} has no attention with {} heads of {} features ({} of "
          "a value) over {} positions on this GPU; set it to \"own\": {}",
          cudnn_version(), shape.H, shape.D_qk, shape.D_v, shape.T, error.what());
    }
  }

  void forward(const AttentionForward& args) override {
    const AttentionShape& s = args.spec.shape;
    prepare(args).run(
        handle_,
        {{kQ, args.q.data}, {kK, args.k.data}, {kV, args.v.data}, {kOut, args.out.data}, {kStats, args.stats.data}},
        nullptr);
    const int64_t rows = s.B * s.H * s.T;
    on(Fill{Tensor(args.stats.as<float>() + rows, DType::kF32, {rows}), 1}, Queue{stream_, nullptr});
  }

  void backward(const AttentionBackward& args) override {
    const AttentionForward& in = args.forward;
    const Prepared& prepared = prepare(args);
    void* workspace = args.workspace.data;
    size_t bytes = args.workspace.bytes();
    if (!std::align(kAlignment, prepared.workspace_bytes(), workspace, bytes))
      throw RunError(
          "cuDNN wants {} bytes of workspace for the attention's backward pass, but {} were planned: set "
          "train.attention_backend to \"own\"",
          prepared.workspace_bytes(), args.workspace.bytes());
    prepared.run(handle_,
                 {{kQ, in.q.data},
                  {kK, in.k.data},
                  {kV, in.v.data},
                  {kOut, in.out.data},
                  {kStats, in.stats.data},
                  {kDOut, args.d_out.data},
                  {kDQ, args.d_q.data},
                  {kDK, args.d_k.data},
                  {kDV, args.d_v.data}},
                 workspace);
  }

 private:
  // As in the columns of one projection; without data.
  static AttentionBackward side_by_side(const AttentionShape& shape) {
    const auto [B, T, H, KV, D_qk, D_v] = shape;
    const auto rows = [&, B = B, T = T](int64_t columns, int64_t stride) {
      Tensor t(nullptr, DType::kBF16, {B * T, columns});
      t.stride = stride;
      return t;
    };
    const int64_t together = (H + KV) * D_qk + KV * D_v;
    AttentionBackward args;
    args.forward.spec.shape = shape;
    args.forward.spec.scale = 1 / std::sqrt(double(D_qk));
    args.forward.q = args.d_q = rows(H * D_qk, together);
    args.forward.k = args.d_k = rows(KV * D_qk, together);
    args.forward.v = args.d_v = rows(KV * D_v, together);
    args.forward.out = args.d_out = rows(H * D_v, H * D_v);
    return args;
  }

  template <class Args>
  const Prepared& prepare(const Args& args) {
    std::unique_ptr<Prepared>& found = prepared_[key_of(args)];
    if (!found) found = std::make_unique<Prepared>(args, handle_);
    return *found;
  }

  const Stream& stream_;
  cudnnHandle_t handle_ = nullptr;
  std::map<Key, std::unique_ptr<Prepared>> prepared_;
};

}  // namespace

std::string cudnn_unavailable_reason() {
  static const std::string reason = load_library();
  return reason;
}

std::string cudnn_version() {
  const size_t version = fe::detail::get_backend_version();
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::unique_ptr<CudnnAttention> make_cudnn_attention(const Stream& stream) {
  return std::make_unique<LoadedCudnn>(stream);
}

}  // namespace sluice::cuda

#else

namespace sluice::cuda {

std::string cudnn_unavailable_reason() {
  return "this build has none: it needs cuDNN 9's headers and those of nvidia-cudnn-frontend when it is configured";
}
std::string cudnn_version() { return ""; }
std::unique_ptr<CudnnAttention> make_cudnn_attention(const Stream&) {
  throw RunError("cuDNN attention: {}", cudnn_unavailable_reason());
}

}  // namespace sluice::cuda

#endif
