// How an attention layer's features are cut into heads.
#pragma once

#include "kernels/types/tensor.h"

namespace sluice {

// Four numbers, and nobody takes one of them for another: a stage may ask for more query heads than the model has, a
// core for values of another width than its keys.
struct HeadSizes {
  int64_t H_q = 0, H_kv = 0;  // query heads; heads of keys and values, each shared by H_q / H_kv query heads
  int64_t D_qk = 0, D_v = 0;  // features of a query or a key, of a value

  int64_t query_columns() const { return H_q * D_qk; }
  int64_t key_columns() const { return H_kv * D_qk; }
  int64_t value_columns() const { return H_kv * D_v; }
  int64_t result_columns() const { return H_q * D_v; }
  int64_t projected_columns() const { return query_columns() + key_columns() + value_columns(); }
};

// What a core is given and what it makes of it; or the gradients of the same.
struct Heads {
  Tensor q;    // [N, H_q D_qk]
  Tensor k;    // [N, H_kv D_qk]
  Tensor v;    // [N, H_kv D_v]
  Tensor out;  // [N, H_q D_v]
};

}  // namespace sluice
