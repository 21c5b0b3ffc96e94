// The instruction sets the CPU kernels are compiled for, and the one chosen at run time.
#pragma once

#include <vector>

#include "kernels/backend.h"

namespace sluice {

// Entry points of one instruction set's kernels. Arguments have been checked by CpuBackend; each switches on the dtype.
struct IsaKernels {
  const char* name;
  void (*matmul)(const MatmulArgs&);  // for what oneDNN lacks: f64, and bf16 on processors without AVX-512
  void (*copy)(const Tensor& out, const Tensor& x);
  void (*embedding_forward)(const Tensor& out, const Tensor& tokens, const Tensor& table, const Tensor& positions, int64_t T);
  void (*embedding_backward)(const Tensor& d_table, const Tensor& d_positions, const Tensor& d_out, const Tensor& tokens,
                             int64_t T, bool accumulate_table, bool accumulate_positions);
  void (*norm_forward)(const NormForward&);
  void (*norm_backward)(const NormBackward&);
  void (*bias_gradient)(const Tensor& d_bias, const Tensor& d_out, bool accumulate, const Tensor& workspace);
  void (*activation_forward)(Activation, const Tensor& out, const Tensor& x);
  void (*activation_backward)(Activation, const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& out);
  void (*swiglu_forward)(const Tensor& out, const Tensor& x);
  void (*swiglu_backward)(const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& out);
  void (*head_norm_forward)(const HeadNormForward&);
  void (*head_norm_backward)(const HeadNormBackward&);
  void (*rope)(const Rope&);
  void (*attention_forward)(const AttentionForward&);
  void (*attention_backward)(const AttentionBackward&);
  void (*attention_probe)(const AttentionProbe&);
  void (*attention_decode)(const AttentionDecode&);
  void (*gate_forward)(const GateForward&);
  void (*gate_backward)(const GateBackward&);
  void (*cross_entropy)(const Tensor& losses, const Tensor& logits, const Tensor& targets, double grad_scale);
  void (*adamw_update)(const OptimizerRange&, const AdamWStep&);
  void (*sgd_update)(const OptimizerRange&, const SgdStep&);
  void (*muon_momentum)(const MuonMomentum&);
  void (*matrix_sum)(const MatrixSum&);
  double (*sum_of_squares)(const Tensor&);
  double (*sum)(const Tensor&);
  void (*group_norms)(const Tensor& out, const Tensor& x, int64_t groups);
  void (*fake_quantize)(const FakeQuantize&);
  void (*row_ranges)(const Tensor& out, const Tensor& x);
};

// The widest set this processor and operating system run; SLUICE_CPU_ISA=baseline|avx2|avx512 narrows it (UserError on
// another value or one the processor lacks).
const IsaKernels& isa_kernels();
const char* cpu_isa_name();
// Every set this processor and operating system run, narrowest first: the first is always "baseline".
std::vector<const IsaKernels*> available_isas();
// The set called `wanted`, or the widest where that is null or empty; UserError on one that is not available.
const IsaKernels& select_isa(const char* wanted);

}  // namespace sluice
