// Products as cuBLASLt wants them: column-major views, epilogues, a plan for each shape (matmul.h).
#include "kernels/cuda/matmul.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "kernels/cuda/kernels.h"

namespace sluice::cuda {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20, kBiasBytes = size_t{1} << 20;

cudaDataType_t type_of(DType type) { return type == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F; }

// The largest power of two up to 256 that divides the address, and those of the rest of a batch, `step` elements apart.
uint32_t alignment_of(const void* data, DType type = DType::kF32, int64_t step = 0) {
  const auto addresses = reinterpret_cast<uintptr_t>(data) | (uintptr_t(step) * size_of(type)) | 256;
  return uint32_t(addresses & -addresses);
}

// Whether cuBLASLt can read the bias where it is: it must have the result's type, and 16-byte loads must be able to.
bool bias_is_ready(const Matmul& args) {
  return args.out.dtype == args.bias.dtype && alignment_of(args.bias.data) >= 16;
}

// A column-major view of a row-major tensor: its transpose. With count > 1, the first of as many, `step` elements
// apart.
class Layout {
 public:
  Layout(const Tensor& t, int32_t count, int64_t step) {
    check(cublasLtMatrixLayoutCreate(&layout_, type_of(t.dtype), uint64_t(t.cols()), uint64_t(t.rows()), t.stride),
          "cublasLtMatrixLayoutCreate");
    if (count == 1) return;
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, count);
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, step);
  }
  ~Layout() { cublasLtMatrixLayoutDestroy(layout_); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  operator cublasLtMatrixLayout_t() const { return layout_; }

 private:
  template <class T>
  void set(cublasLtMatrixLayoutAttribute_t attribute, T value) {
    check(cublasLtMatrixLayoutSetAttribute(layout_, attribute, &value, sizeof value),
          "cublasLtMatrixLayoutSetAttribute");
  }

  cublasLtMatrixLayout_t layout_ = nullptr;
};

class Preference {
 public:
  Preference() { check(cublasLtMatmulPreferenceCreate(&preference_), "cublasLtMatmulPreferenceCreate"); }
  ~Preference() { cublasLtMatmulPreferenceDestroy(preference_); }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  operator cublasLtMatmulPreference_t() const { return preference_; }

  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    check(cublasLtMatmulPreferenceSetAttribute(preference_, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
  }

 private:
  cublasLtMatmulPreference_t preference_ = nullptr;
};

class Description {
 public:
  Description() { check(cublasLtMatmulDescCreate(&desc_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate"); }
  ~Description() { cublasLtMatmulDescDestroy(desc_); }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;
  operator cublasLtMatmulDesc_t() const { return desc_; }

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) const {
    check(cublasLtMatmulDescSetAttribute(desc_, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  }

 private:
  cublasLtMatmulDesc_t desc_ = nullptr;
};

}  // namespace

// What of the product's tail cuBLASLt is to do. With gelu it writes activation(C) as its result and C beside it.
struct MatrixProducts::Fusion {
  bool bias = false, gelu = false;
};

// The product is the first of `count`; the next one's tensors lie so many elements further.
struct MatrixProducts::Batch {
  int32_t count = 1;
  int64_t a = 0, b = 0, out = 0;
};

struct MatrixProducts::Key {
  std::array<int64_t, 11> sizes;       // M, N, K, strides of a, b, out, activated, the batch
  std::array<uint8_t, 7> flags;        // transpose a, b, accumulate, fused bias, fused gelu, types of a and out
  std::array<uint32_t, 5> alignments;  // of a, b, out, activated, bias
  auto operator<=>(const Key&) const = default;
};

// A product with its algorithm; running it only sets pointers.
class MatrixProducts::Plan {
 public:
  // `bias` as cuBLASLt is to read it, or null.
  Plan(const Matmul& args, const Batch& batch, const Fusion& fusion, const void* bias)
      : fusion_(fusion),
        batch_(batch),
        a_(args.a, batch.count, batch.a),
        b_(args.b, batch.count, batch.b),
        result_(fusion.gelu ? args.activated : args.out, batch.count, batch.out) {
    desc_.set(CUBLASLT_MATMUL_DESC_TRANSA, args.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    desc_.set(CUBLASLT_MATMUL_DESC_TRANSB, args.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    desc_.set(CUBLASLT_MATMUL_DESC_EPILOGUE,
              fusion.gelu   ? (fusion.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX)
              : fusion.bias ? CUBLASLT_EPILOGUE_BIAS
                            : CUBLASLT_EPILOGUE_DEFAULT);
    if (fusion.gelu) desc_.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, args.out.stride);
    set_pointers(args, bias);  // cuBLASLt looks at their alignment
  }

  // Whether cuBLASLt has an algorithm.
  bool find_algorithm(cublasLtHandle_t handle, const Matmul& args) {
    const void* result = fusion_.gelu ? args.activated.data : args.out.data;
    Preference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspace});
    preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                   uint32_t(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(args.b.data, args.b.dtype, batch_.b));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(args.a.data, args.a.dtype, batch_.a));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(result, args.out.dtype, batch_.out));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(result, args.out.dtype, batch_.out));
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, desc_, b_, a_, result_, result_, preference, 1, &found, &count);
    algorithm_ = found.algo;
    return status == CUBLAS_STATUS_SUCCESS && count > 0 && found.state == CUBLAS_STATUS_SUCCESS;
  }

  cublasStatus_t run(cublasLtHandle_t handle, const Matmul& args, const void* bias, const DeviceBuffer& workspace,
                     cudaStream_t stream) const {
    set_pointers(args, bias);
    const float alpha = 1, beta = args.accumulate ? 1 : 0;
    void* result = fusion_.gelu ? args.activated.data : args.out.data;
    return cublasLtMatmul(handle, desc_, &alpha, args.b.data, b_, args.a.data, a_, &beta, result, result_, result,
                          result_, &algorithm_, workspace.data(), workspace.bytes(), stream);
  }

 private:
  void set_pointers(const Matmul& args, const void* bias) const {
    if (fusion_.bias) desc_.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    if (fusion_.gelu) desc_.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, args.out.data);
  }

  Fusion fusion_;
  Batch batch_;
  Description desc_;
  Layout a_, b_, result_;
  cublasLtMatmulAlgo_t algorithm_{};
};

MatrixProducts::MatrixProducts(const Stream& stream) : stream_(stream), workspace_(kWorkspace), bias_(kBiasBytes) {
  check(cublasLtCreate(&handle_), "cublasLtCreate");
}

MatrixProducts::~MatrixProducts() {
  plans_.clear();
  cublasLtDestroy(handle_);
}

// Until its next use the copy is this product's: there is one stream.
const void* MatrixProducts::prepared_bias(const Matmul& args) {
  if (bias_is_ready(args)) return args.bias.data;
  const Tensor rounded(bias_.data(), args.out.dtype, {args.bias.elements()});
  on(Copy{rounded, args.bias.reshaped({args.bias.elements()})}, Queue{stream_, nullptr});
  return rounded.data;
}

std::unique_ptr<MatrixProducts::Plan>& MatrixProducts::plan(const Matmul& args, const Batch& batch,
                                                            const Fusion& fusion) {
  const Tensor none;
  const Tensor& activated = fusion.gelu ? args.activated : none;
  const void* bias = !fusion.bias ? nullptr : bias_is_ready(args) ? args.bias.data : bias_.data();
  const Key key{{args.out.rows(), args.out.cols(), args.transpose_a ? args.a.rows() : args.a.cols(), args.a.stride,
                 args.b.stride, args.out.stride, activated.stride, batch.count, batch.a, batch.b, batch.out},
                {args.transpose_a, args.transpose_b, args.accumulate, fusion.bias, fusion.gelu, uint8_t(args.a.dtype),
                 uint8_t(args.out.dtype)},
                {alignment_of(args.a.data), alignment_of(args.b.data), alignment_of(args.out.data),
                 alignment_of(activated.data), alignment_of(bias)}};
  const auto [found, missing] = plans_.try_emplace(key);
  if (missing) {
    auto made = std::make_unique<Plan>(args, batch, fusion, bias);
    if (made->find_algorithm(handle_, args)) found->second = std::move(made);
  }
  return found->second;
}

// False where cuBLASLt has no algorithm for it, or one that it refuses to run: nothing was computed. Only a product's
// first run can be refused, which is never part of a recorded graph.
bool MatrixProducts::run_fused(const Matmul& args, const Batch& batch, const Fusion& fusion) {
  std::unique_ptr<Plan>& chosen = plan(args, batch, fusion);
  if (!chosen) return false;
  const void* bias = fusion.bias ? prepared_bias(args) : nullptr;
  const cublasStatus_t status = chosen->run(handle_, args, bias, workspace_, stream_);
  if (status == CUBLAS_STATUS_SUCCESS) return true;
  if (!fusion.bias && !fusion.gelu && batch.count == 1) check(status, "cublasLtMatmul");
  chosen.reset();
  return false;
}

void MatrixProducts::run(const Matmul& args) {
  const bool bf16 = args.out.dtype == DType::kBF16;
  const bool bias = args.bias && args.bias.bytes() <= kBiasBytes;
  // gelu's second result must have rows a multiple of 8 apart that start at 16 bytes. In fp32 our own is more exact.
  const bool gelu = args.activated && args.activation == Activation::kGelu && !args.accumulate && bf16 &&
                    args.out.stride % 8 == 0 && alignment_of(args.out.data) >= 16;
  const std::array<Fusion, 3> candidates{Fusion{bias, gelu}, Fusion{bias, false}, Fusion{}};
  const auto ran = std::find_if(candidates.begin(), candidates.end(),
                                [&](const Fusion& candidate) { return run_fused(args, {}, candidate); });
  if (ran == candidates.end())
    throw RunError("cuBLAS has no product for C {} {} = A {} {} B {}", name_of(args.out.dtype), args.out.shape.str(),
                   name_of(args.a.dtype), args.a.shape.str(), args.b.shape.str());

  const bool bias_left = args.bias && !ran->bias, activation_left = args.activated && !ran->gelu;
  if (bias_left || activation_left)
    add_bias_and_activate(view_of(args.out), bias_left ? args.bias.as<float>() : nullptr,
                          activation_left ? view_of(args.activated) : View{}, args.activation, stream_);
}

void MatrixProducts::run(const HeadMatmul& args) {
  const Matmul first = args.of_head(0), last = args.of_head(args.heads - 1);
  const auto step = [&](const Tensor& from, const Tensor& to) {
    const int64_t bytes = to.as<char>() - from.as<char>();
    return args.heads > 1 ? bytes / (args.heads - 1) / int64_t(size_of(from.dtype)) : 0;
  };
  const Batch batch{int32_t(args.heads), step(first.a, last.a), step(first.b, last.b), step(first.out, last.out)};
  if (!run_fused(first, batch, {})) {
    for (int64_t head = 0; head < args.heads; ++head) run(args.of_head(head));
    return;
  }
  if (args.all.bias)
    add_bias_and_activate(view_of(args.all.out), args.all.bias.as<float>(), View{}, Activation::kRelu, stream_);
}

}  // namespace sluice::cuda
