#include "kernels/timed_backend.h"

#include <chrono>
#include <type_traits>

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

MatmulShape shape_of(const MatmulArgs& args) {
  return {.M = args.out.rows(),
          .N = args.out.cols(),
          .K = args.transpose_a ? args.a.rows() : args.a.cols(),
          .a_stride = args.a.stride,
          .b_stride = args.b.stride,
          .out_stride = args.out.stride,
          .transpose_a = args.transpose_a,
          .transpose_b = args.transpose_b,
          .accumulate = args.accumulate,
          .bias = bool(args.bias),
          .type = args.a.dtype,
          .out_type = args.out.dtype};
}

}  // namespace

std::string MatmulShape::str() const {
  return fmt::format("{} {}x{}x{}{}{}", name_of(type), M, N, K, transpose_a ? " A^T" : transpose_b ? " B^T" : "",
                     accumulate ? " +=" : "");
}

template <class Op>
auto TimedBackend::timed(const char* name, Op op) {
  if (!measuring_) return op();
  const auto start = Clock::now();
  const auto note = [&] {
    inner_.synchronize();
    OpTime& time = ops_[name];
    ++time.calls;
    time.seconds += seconds_since(start);
  };
  if constexpr (std::is_void_v<decltype(op())>) {
    op();
    note();
  } else {
    const auto result = op();
    note();
    return result;
  }
}

// Also kept by shape: `count` products like `product`.
template <class Op>
void TimedBackend::timed_product(const char* name, const MatmulArgs& product, int64_t count, Op op) {
  const auto start = Clock::now();
  timed(name, op);
  OpTime& time = matmuls_[shape_of(product)];
  time.calls += count;
  time.seconds += seconds_since(start);
}

// A fused activation is timed as an op of its own, so that the products compare with bare ones of the same shape.
void TimedBackend::matmul(const MatmulArgs& args) {
  if (!measuring_) return inner_.matmul(args);
  MatmulArgs product = args;
  product.activated = {};
  timed_product("matmul", product, 1, [&] { inner_.matmul(product); });
  if (args.activated) activation_forward(args.activation, args.activated, args.out);
}

void TimedBackend::head_matmul(const HeadMatmul& args) {
  if (!measuring_) return inner_.head_matmul(args);
  timed_product("head matmul", args.of_head(0), args.heads, [&] { inner_.head_matmul(args); });
}

// Op by op where they are measured: a record has no parts to time.
void TimedBackend::replay(const std::string& key, const std::function<void()>& ops) {
  if (measuring_) ops();
  else inner_.replay(key, ops);
}

void TimedBackend::upload(const Tensor& to, const void* from) {
  timed("upload", [&] { inner_.upload(to, from); });
}
void TimedBackend::download(void* to, const Tensor& from) {
  timed("download", [&] { inner_.download(to, from); });
}
void TimedBackend::fill(const Tensor& out, double value) {
  timed("fill", [&] { inner_.fill(out, value); });
}
void TimedBackend::copy(const Tensor& out, const Tensor& x) {
  timed("copy", [&] { inner_.copy(out, x); });
}
void TimedBackend::random_uniform(const Tensor& out, uint64_t seed, uint64_t stream, double low, double high) {
  timed("random", [&] { inner_.random_uniform(out, seed, stream, low, high); });
}
void TimedBackend::random_normal(const Tensor& out, uint64_t seed, uint64_t stream, double mean, double deviation) {
  timed("random", [&] { inner_.random_normal(out, seed, stream, mean, deviation); });
}
void TimedBackend::embedding_forward(const Tensor& out, const Tensor& tokens, const Tensor& table, const Tensor& positions,
                                     int64_t T) {
  timed("embedding", [&] { inner_.embedding_forward(out, tokens, table, positions, T); });
}
void TimedBackend::embedding_backward(const Tensor& d_table, const Tensor& d_positions, const Tensor& d_out,
                                      const Tensor& tokens, int64_t T, bool accumulate_table, bool accumulate_positions) {
  timed("embedding backward", [&] {
    inner_.embedding_backward(d_table, d_positions, d_out, tokens, T, accumulate_table, accumulate_positions);
  });
}
void TimedBackend::norm_forward(const NormForward& args) {
  timed("norm", [&] { inner_.norm_forward(args); });
}
void TimedBackend::norm_backward(const NormBackward& args) {
  timed("norm backward", [&] { inner_.norm_backward(args); });
}
void TimedBackend::bias_gradient(const Tensor& d_bias, const Tensor& d_out, bool accumulate, const Tensor& workspace) {
  timed("bias gradient", [&] { inner_.bias_gradient(d_bias, d_out, accumulate, workspace); });
}
void TimedBackend::activation_forward(Activation kind, const Tensor& out, const Tensor& x) {
  timed("activation", [&] { inner_.activation_forward(kind, out, x); });
}
void TimedBackend::activation_backward(Activation kind, const Tensor& d_x, const Tensor& d_out, const Tensor& x,
                                       const Tensor& out) {
  timed("activation backward", [&] { inner_.activation_backward(kind, d_x, d_out, x, out); });
}
void TimedBackend::swiglu_forward(const Tensor& out, const Tensor& x) {
  timed("swiglu", [&] { inner_.swiglu_forward(out, x); });
}
void TimedBackend::swiglu_backward(const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& out) {
  timed("swiglu backward", [&] { inner_.swiglu_backward(d_x, d_out, x, out); });
}
void TimedBackend::head_norm_forward(const HeadNormForward& args) {
  timed("head norm", [&] { inner_.head_norm_forward(args); });
}
void TimedBackend::head_norm_backward(const HeadNormBackward& args) {
  timed("head norm backward", [&] { inner_.head_norm_backward(args); });
}
void TimedBackend::rope(const Rope& args) {
  timed("rope", [&] { inner_.rope(args); });
}
void TimedBackend::attention_forward(const AttentionForward& args) {
  timed("attention", [&] { inner_.attention_forward(args); });
}
void TimedBackend::attention_backward(const AttentionBackward& args) {
  timed("attention backward", [&] { inner_.attention_backward(args); });
}
void TimedBackend::attention_probe(const AttentionProbe& args) {
  timed("attention probe", [&] { inner_.attention_probe(args); });
}
void TimedBackend::attention_decode(const AttentionDecode& args) {
  timed("attention decode", [&] { inner_.attention_decode(args); });
}
void TimedBackend::gate_forward(const GateForward& args) {
  timed("gate", [&] { inner_.gate_forward(args); });
}
void TimedBackend::gate_backward(const GateBackward& args) {
  timed("gate backward", [&] { inner_.gate_backward(args); });
}
void TimedBackend::cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets, double grad_scale) {
  timed("cross-entropy", [&] { inner_.cross_entropy(losses, logits, targets, grad_scale); });
}
void TimedBackend::adamw_update(const OptimizerRange& range, const AdamWStep& step) {
  timed("optimizer", [&] { inner_.adamw_update(range, step); });
}
void TimedBackend::sgd_update(const OptimizerRange& range, const SgdStep& step) {
  timed("optimizer", [&] { inner_.sgd_update(range, step); });
}
void TimedBackend::muon_momentum(const MuonMomentum& args) {
  timed("optimizer", [&] { inner_.muon_momentum(args); });
}
void TimedBackend::matrix_sum(const MatrixSum& args) {
  timed("optimizer", [&] { inner_.matrix_sum(args); });
}
double TimedBackend::sum_of_squares(const Tensor& x) {
  return timed("gradient norm", [&] { return inner_.sum_of_squares(x); });
}
double TimedBackend::sum(const Tensor& x) {
  return timed("loss sum", [&] { return inner_.sum(x); });
}
void TimedBackend::group_norms(const Tensor& out, const Tensor& x, int64_t groups) {
  timed("group norms", [&] { inner_.group_norms(out, x, groups); });
}
void TimedBackend::fake_quantize(const FakeQuantize& args) {
  timed("fake quantize", [&] { inner_.fake_quantize(args); });
}
void TimedBackend::row_ranges(const Tensor& out, const Tensor& x) {
  timed("row ranges", [&] { inner_.row_ranges(out, x); });
}

}  // namespace sluice
