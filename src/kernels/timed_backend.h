// A backend that times another one's operations: calls and seconds by op, and every matmul's shape.
//
// Until measure() it passes everything through. From then on each op is followed by synchronize(), so that on a device the
// time is the op's own. Used by `sluice bench`.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace sluice {

struct OpTime {
  int64_t calls = 0;
  double seconds = 0;
};

// One shape of matrix product, as often as it was run.
struct MatmulShape {
  int64_t M = 0, N = 0, K = 0;
  int64_t a_stride = 0, b_stride = 0, out_stride = 0;
  bool transpose_a = false, transpose_b = false, accumulate = false, bias = false;
  DType type = DType::kF32, out_type = DType::kF32;
  auto operator<=>(const MatmulShape&) const = default;
  double operations() const { return 2.0 * double(M) * double(N) * double(K); }
  std::string str() const;
};

class TimedBackend final : public Backend {
 public:
  explicit TimedBackend(Backend& inner) : inner_(inner) {}

  const std::map<std::string, OpTime>& ops() const { return ops_; }
  const std::map<MatmulShape, OpTime>& matmuls() const { return matmuls_; }
  void measure() {  // again: from the beginning
    measuring_ = true;
    ops_.clear();
    matmuls_.clear();
  }

  std::string describe() const override { return inner_.describe(); }
  void* allocate(size_t bytes) override { return inner_.allocate(bytes); }
  void release(void* data) override { inner_.release(data); }
  size_t allocated_bytes() const override { return inner_.allocated_bytes(); }
  void upload(const Tensor& to, const void* from) override;
  void download(void* to, const Tensor& from) override;
  void synchronize() override { inner_.synchronize(); }
  void* stream() const override { return inner_.stream(); }
  void replay(const std::string& key, const std::function<void()>& ops) override;
  void fill(const Tensor& out, double value) override;
  void copy(const Tensor& out, const Tensor& x) override;
  void random_uniform(const Tensor& out, uint64_t seed, uint64_t stream, double low, double high) override;
  void random_normal(const Tensor& out, uint64_t seed, uint64_t stream, double mean, double deviation) override;
  void embedding_forward(const Tensor& out, const Tensor& tokens, const Tensor& table, const Tensor& positions,
                         int64_t T) override;
  void embedding_backward(const Tensor& d_table, const Tensor& d_positions, const Tensor& d_out, const Tensor& tokens,
                          int64_t T, bool accumulate_table, bool accumulate_positions) override;
  void norm_forward(const NormForward& args) override;
  void norm_backward(const NormBackward& args) override;
  int64_t norm_workspace(int64_t C) const override { return inner_.norm_workspace(C); }
  void matmul(const MatmulArgs& args) override;
  void head_matmul(const HeadMatmul& args) override;
  void bias_gradient(const Tensor& d_bias, const Tensor& d_out, bool accumulate, const Tensor& workspace) override;
  void activation_forward(Activation kind, const Tensor& out, const Tensor& x) override;
  void activation_backward(Activation kind, const Tensor& d_x, const Tensor& d_out, const Tensor& x,
                           const Tensor& out) override;
  void swiglu_forward(const Tensor& out, const Tensor& x) override;
  void swiglu_backward(const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& out) override;
  void head_norm_forward(const HeadNormForward& args) override;
  void head_norm_backward(const HeadNormBackward& args) override;
  void rope(const Rope& args) override;
  void attention_forward(const AttentionForward& args) override;
  void attention_backward(const AttentionBackward& args) override;
  void attention_probe(const AttentionProbe& args) override;
  int64_t attention_workspace(const AttentionShape& shape, DType act) const override {
    return inner_.attention_workspace(shape, act);
  }
  void attention_decode(const AttentionDecode& args) override;
  int64_t attention_decode_workspace(const AttentionShape& shape, DType act) const override {
    return inner_.attention_decode_workspace(shape, act);
  }
  void gate_forward(const GateForward& args) override;
  void gate_backward(const GateBackward& args) override;
  void cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets, double grad_scale) override;
  void adamw_update(const OptimizerRange& range, const AdamWStep& step) override;
  void sgd_update(const OptimizerRange& range, const SgdStep& step) override;
  void muon_momentum(const MuonMomentum& args) override;
  void matrix_sum(const MatrixSum& args) override;
  double sum_of_squares(const Tensor& x) override;
  double sum(const Tensor& x) override;
  void group_norms(const Tensor& out, const Tensor& x, int64_t groups) override;
  void fake_quantize(const FakeQuantize& args) override;
  void row_ranges(const Tensor& out, const Tensor& x) override;

 private:
  template <class Op>
  auto timed(const char* name, Op op);
  template <class Op>
  void timed_product(const char* name, const MatmulArgs& product, int64_t count, Op op);

  Backend& inner_;
  bool measuring_ = false;
  std::map<std::string, OpTime> ops_;
  std::map<MatmulShape, OpTime> matmuls_;
};

}  // namespace sluice
