// What the ops of cores check alike.
#pragma once

#include "kernels/ops/check.h"
#include "kernels/types/attention_types.h"

namespace sluice {

// Sizes, queries, keys, values and the optional first keys; returns the activations' type.
DType check_heads(const OpCheck& op, const AttentionShape& shape, const Tensor& q, const Tensor& k, const Tensor& v,
                  const Tensor& first_key);
// Of a backward op: the gradients of queries, keys and values, and that the forward run was of whole sequences.
void check_head_gradients(const OpCheck& op, const AttentionShape& shape, DType act, const Tensor& state,
                          const Tensor& d_q, const Tensor& d_k, const Tensor& d_v);

}  // namespace sluice
