// Causal attention on the GPU, as the host sees it. The operations, their shapes and formulas are those of backend.h;
// arguments have been checked. Every function only puts kernels on the stream.
//
// q, k, v, out, d_out, d_q, d_k and d_v have B*T rows, are strided, and are all bf16 or all f32; the rest is f32.
#pragma once

#include <cuda_runtime.h>

#include "kernels/attention_types.h"
#include "kernels/cuda/kernels.h"

namespace sluice::cuda {

struct AttentionForwardArgs {
  AttentionSpec spec;
  View q, k, v;                         // [B*T, H*D], [B*T, KV*D] twice
  const float* key_bias = nullptr;      // [KV, D] or null
  const float* value_bias = nullptr;    // [KV, D] or null
  const float* sink_logit = nullptr;    // [H], for ScoreKind::kSinkLogit
  const int32_t* first_key = nullptr;   // [B, T] or null
  View out;                             // [B*T, H*D]
  float* stats = nullptr;               // [2, B, H, T]
};

struct AttentionBackwardArgs {
  AttentionForwardArgs forward;         // as it was run; out and stats hold its results
  View d_out;                           // [B*T, H*D]
  View d_q, d_k, d_v;                   // like q, k, v
  float* d_key_bias = nullptr;          // like their parameters, or null
  float* d_value_bias = nullptr;
  float* d_sink_logit = nullptr;
  bool accumulate = false;              // of the three above
  float* workspace = nullptr;           // [attention_workspace(...)], aligned to 16 bytes
};

struct AttentionProbeArgs {
  AttentionForwardArgs forward;         // stats hold the results of a forward run; out is not used
  float* sink_attention = nullptr;      // [B, H, T]
  float* sink_logit_gap = nullptr;      // [B, H, T]
};

struct AttentionDecodeArgs {
  AttentionSpec spec;
  int64_t length = 0;
  View q, k, v;                         // [B, H*D], [B*T, KV*D] twice
  const float *key_bias = nullptr, *value_bias = nullptr, *sink_logit = nullptr;
  View out;                             // [B, H*D]
  float* workspace = nullptr;           // [attention_decode_workspace(...)]
};

void attention_forward(const AttentionForwardArgs& args, cudaStream_t stream);
void attention_backward(const AttentionBackwardArgs& args, cudaStream_t stream);
void attention_probe(const AttentionProbeArgs& args, cudaStream_t stream);
void attention_decode(const AttentionDecodeArgs& args, cudaStream_t stream);

// Sizes of the workspaces of the backward pass and of a decoder's step, in f32 elements.
int64_t attention_workspace(const AttentionShape& shape, bool bf16);
int64_t attention_decode_workspace(const AttentionShape& shape);

}  // namespace sluice::cuda
