// How attention's backward pass and a decoder's step cut their work and lay out their workspace. Everything follows
// from the shape alone, so the result does not depend on the number of threads.
#pragma once

#include <algorithm>

#include "kernels/types/attention_types.h"
#include "kernels/types/tensor.h"

namespace sluice {

inline constexpr int64_t kAttentionBlock = 64;  // queries and keys of a tile
inline constexpr int64_t kAttentionTasks =
    32;  // enough for the machines this runs on, few enough to keep partial sums small

// A row of D elements, of whole SIMD registers of the widest set.
[[gnu::always_inline]] inline constexpr int64_t padded_row(int64_t D) { return (D + 15) / 16 * 16; }

struct AttentionWorkspace {
  int64_t padded_qk;
  int64_t chunks;  // key blocks kb, kb + chunks, ... of one (batch, kv head) are one task
  // Offsets in elements of the accumulator type: [B,H,T], [chunks,B,H,T,padded_qk]; a bias slot's shares [B,KV,D_qk],
  // [B,KV,D_v]
  int64_t delta, d_q, slot_keys, slot_values, total;

  // Inlined always, because the kernels of every instruction set call it (see cmake/isa_kernels.cmake).
  [[gnu::always_inline]] explicit AttentionWorkspace(const AttentionShape& s) {
    const int64_t blocks = (s.T + kAttentionBlock - 1) / kAttentionBlock;
    padded_qk = padded_row(s.D_qk);
    chunks = std::clamp<int64_t>((kAttentionTasks + s.B * s.KV - 1) / (s.B * s.KV), 1, blocks);
    delta = 0;
    d_q = delta + (s.B * s.H * s.T + 15) / 16 * 16;
    slot_keys = d_q + chunks * s.B * s.H * s.T * padded_qk;
    slot_values = slot_keys + s.B * s.KV * s.D_qk;
    total = slot_values + s.B * s.KV * s.D_v;
  }
};

struct AttentionDecodeWorkspace {
  int64_t padded_v;                 // as above
  int64_t row;                      // of one head's scores: T keys and a bias slot, rounded up to whole registers
  int64_t scores, partials, total;  // offsets: [B,H,row], [chunks,B,H,padded_v]

  [[gnu::always_inline]] explicit AttentionDecodeWorkspace(const AttentionShape& s) {
    padded_v = padded_row(s.D_v);
    row = padded_row(s.T + 1);
    scores = 0;
    partials = scores + s.B * s.H * row;
    total = partials + chunks(s, s.T) * s.B * s.H * padded_v;
  }
  // Into how many the first `length` keys are cut; a chunk of fewer than 256 is not worth a thread.
  [[gnu::always_inline]] static int64_t chunks(const AttentionShape& s, int64_t length) {
    const int64_t wanted = (kAttentionTasks + s.B * s.KV - 1) / (s.B * s.KV), most = (length + 255) / 256;
    return wanted < most ? wanted : most;
  }
};

}  // namespace sluice
