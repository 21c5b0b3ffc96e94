// What the ops of cores check alike.
#pragma once

#include "kernels/ops/check.h"
#include "kernels/types/attention_types.h"

namespace sluice {

// Sizes, queries, keys, values and the optional first keys; returns the activations' type.
DType check_heads(const OpCheck& op, const AttentionShape& shape, const Tensor& q, const Tensor& k, const Tensor& v,
                  const Tensor& first_key);

}  // namespace sluice
