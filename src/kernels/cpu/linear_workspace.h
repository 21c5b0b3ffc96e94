// Where the backward pass of linear attention keeps its states. Everything follows from the shape alone.
#pragma once

#include "kernels/cpu/attention_workspace.h"

namespace sluice {

// Offsets in elements of the accumulator type. Each part has a state for every query head of every sequence.
struct LinearAttentionWorkspace {
  int64_t d_q, d_k, d_v;  // of keys by values; of gradients by queries; of queries by gradients
  int64_t total;

  // Inlined always, because the kernels of every instruction set call it (see cmake/isa_kernels.cmake).
  [[gnu::always_inline]] explicit LinearAttentionWorkspace(const AttentionShape& s) {
    d_q = 0;
    d_k = d_q + s.B * s.H * s.D_v * padded_row(s.D_qk);
    d_v = d_k + s.B * s.H * s.D_v * padded_row(s.D_qk);
    total = d_v + s.B * s.H * s.D_qk * padded_row(s.D_v);
  }
};

}  // namespace sluice
