// The kernels of one instruction set, by family; table.cc collects them into IsaKernels.
#pragma once

#include "kernels/cpu/isa.h"

namespace sluice::SLUICE_ISA {

// matmul.cc
void matmul(const MatmulArgs& args);
// elementwise.cc
void copy(const Tensor& out, const Tensor& x);
void activation_forward(Activation kind, const Tensor& out, const Tensor& x);
void activation_backward(Activation kind, const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& out);
void swiglu_forward(const Tensor& out, const Tensor& x);
void swiglu_backward(const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& out);
void gate_forward(const GateForward& args);
void gate_backward(const GateBackward& args);
void group_norms(const Tensor& out, const Tensor& x, int64_t groups);
// embedding.cc
void embedding_forward(const Tensor& out, const Tensor& tokens, const Tensor& table, const Tensor& positions, int64_t T);
void embedding_backward(const Tensor& d_table, const Tensor& d_positions, const Tensor& d_out, const Tensor& tokens,
                        int64_t T, bool accumulate_table, bool accumulate_positions);
// norm.cc
void norm_forward(const NormForward& args);
void norm_backward(const NormBackward& args);
void bias_gradient(const Tensor& d_bias, const Tensor& d_out, bool accumulate, const Tensor& workspace);
// heads.cc
void head_norm_forward(const HeadNormForward& args);
void head_norm_backward(const HeadNormBackward& args);
void rope(const Rope& args);
// loss.cc
void cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets, double grad_scale);
// optimizer.cc
void adamw_update(const OptimizerRange& range, const AdamWStep& step);
void sgd_update(const OptimizerRange& range, const SgdStep& step);
void muon_momentum(const MuonMomentum& args);
void matrix_sum(const MatrixSum& args);
double sum_of_squares(const Tensor& x);
double sum(const Tensor& x);
// quantize.cc
void fake_quantize(const FakeQuantize& args);
void row_ranges(const Tensor& out, const Tensor& x);
// attention_forward.cc, attention_backward.cc, attention_decode.cc
void attention_forward(const AttentionForward& args);
void attention_probe(const AttentionProbe& args);
void attention_backward(const AttentionBackward& args);
void attention_decode(const AttentionDecode& args);

}  // namespace sluice::SLUICE_ISA
