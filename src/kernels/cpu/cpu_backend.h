// CpuBackend: checks arguments, then calls the kernels of the chosen instruction set (isa.h), oneDNN for matmul
// (matmul.h). Everything is synchronous. Private to kernels/cpu: use make_cpu_backend() of backend.h.
#pragma once

#include <unordered_map>

#include "kernels/backend.h"
#include "kernels/cpu/isa.h"

namespace sluice {

class CpuBackend : public Backend {
 public:
  CpuBackend() : isa_(isa_kernels()) {}

  std::string describe() const override;
  void* allocate(size_t bytes) override;
  void release(void* data) override;
  size_t allocated_bytes() const override { return allocated_; }
  void upload(const Tensor& to, const void* from) override;
  void download(void* to, const Tensor& from) override;
  void synchronize() override {}
  void replay(const std::string&, const std::function<void()>& ops) override { ops(); }

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
  int64_t norm_workspace(int64_t C) const override;

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
  int64_t attention_workspace(const AttentionShape& shape, DType act) const override;
  void attention_decode(const AttentionDecode& args) override;
  int64_t attention_decode_workspace(const AttentionShape& shape, DType act) const override;
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
  const IsaKernels& isa_;
  std::unordered_map<void*, size_t> sizes_;  // of what allocate() gave
  size_t allocated_ = 0;
};

}  // namespace sluice
