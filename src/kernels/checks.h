// Checks of the ops' arguments against what backend.h states: types, shapes, strides, absent tensors. Every backend runs
// them before its kernels. A mismatch is a bug in the caller: std::logic_error that names the op and the tensor and
// prints what it is and what it should be. Workspaces, whose sizes are the backend's own, are not checked here.
#pragma once

#include "kernels/backend.h"

namespace sluice {

void check_upload(const Tensor& device_side);
void check_copy(const Tensor& out, const Tensor& x);
void check_random(const Tensor& out);
void check_embedding_forward(const Tensor& out, const Tensor& tokens, const Tensor& table, const Tensor& positions,
                             int64_t T);
void check_embedding_backward(const Tensor& d_table, const Tensor& d_positions, const Tensor& d_out,
                              const Tensor& tokens, int64_t T);
void check_norm_forward(const NormForward& args);
void check_norm_backward(const NormBackward& args);
void check_matmul(const MatmulArgs& args);
void check_head_matmul(const HeadMatmul& args);
void check_bias_gradient(const Tensor& d_bias, const Tensor& d_out);
void check_activation_forward(const Tensor& out, const Tensor& x);
void check_activation_backward(const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& out);
void check_swiglu_forward(const Tensor& out, const Tensor& x);
void check_swiglu_backward(const Tensor& d_x, const Tensor& d_out, const Tensor& x, const Tensor& out);
void check_head_norm_forward(const HeadNormForward& args);
void check_head_norm_backward(const HeadNormBackward& args);
void check_rope(const Rope& args);
void check_attention_forward(const AttentionForward& args);
void check_attention_backward(const AttentionBackward& args);
void check_attention_probe(const AttentionProbe& args);
void check_attention_decode(const AttentionDecode& args);
void check_gate_forward(const GateForward& args);
void check_gate_backward(const GateBackward& args);
void check_cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets);
void check_adamw_update(const OptimizerRange& range, const AdamWStep& step);
void check_sgd_update(const OptimizerRange& range, const SgdStep& step);
void check_muon_momentum(const MuonMomentum& args);
void check_matrix_sum(const MatrixSum& args);
void check_sum(const Tensor& x);
void check_group_norms(const Tensor& out, const Tensor& x, int64_t groups);
void check_fake_quantize(const FakeQuantize& args);
void check_row_ranges(const Tensor& out, const Tensor& x);

}  // namespace sluice
