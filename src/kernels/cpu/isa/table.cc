// The table of this instruction set's kernels.
#include "kernels/cpu/isa/kernels.h"

#define SLUICE_TEXT_OF(x) #x
#define SLUICE_TEXT(x) SLUICE_TEXT_OF(x)

namespace sluice::SLUICE_ISA {

extern const IsaKernels kTable;  // isa.cc declares it too
const IsaKernels kTable = {
    .name = SLUICE_TEXT(SLUICE_ISA),
    .matmul = matmul,
    .copy = copy,
    .embedding_forward = embedding_forward,
    .embedding_backward = embedding_backward,
    .norm_forward = norm_forward,
    .norm_backward = norm_backward,
    .bias_gradient = bias_gradient,
    .activation_forward = activation_forward,
    .activation_backward = activation_backward,
    .swiglu_forward = swiglu_forward,
    .swiglu_backward = swiglu_backward,
    .head_norm_forward = head_norm_forward,
    .head_norm_backward = head_norm_backward,
    .rope = rope,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
    .attention_probe = attention_probe,
    .attention_decode = attention_decode,
    .gate_forward = gate_forward,
    .gate_backward = gate_backward,
    .cross_entropy = cross_entropy,
    .adamw_update = adamw_update,
    .sgd_update = sgd_update,
    .muon_momentum = muon_momentum,
    .matrix_sum = matrix_sum,
    .sum_of_squares = sum_of_squares,
    .sum = sum,
    .group_norms = group_norms,
    .fake_quantize = fake_quantize,
    .row_ranges = row_ranges,
};

}  // namespace sluice::SLUICE_ISA
