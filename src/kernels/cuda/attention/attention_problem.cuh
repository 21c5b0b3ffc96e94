// What the CUDA attention kernels are told, and which keys a row sees by it: documents, windows and orders of rows
// (kernels/ops/attention.h).
#pragma once

#include <algorithm>

#include "kernels/cuda/packs.cuh"
#include "kernels/formulas/dropout.h"
#include "kernels/formulas/scores/registry.h"
#include "kernels/ops/attention.h"

namespace sluice::cuda {

// What every kernel is told, besides its matrices.
struct AttentionProblem {
  int B, T, H, KV, D_qk, D_v;
  float scale;
  ScoreKind score;
  ScoreConstants constants;  // as Score::Constants<float>
  const float *key_bias, *value_bias;
  const float* learned[kMostLearned];  // [H] each, or null
  const int32_t* first_key;            // [B, T] or null: 0
  int window;                          // keys that a row sees at most; 0: all up to its own
  const int32_t* last_key;             // [B, T] or null: causal
  const int32_t* order;                // [kOrderPlanes, B, T] or null
  bool vectors;                        // every matrix can be read and written 16 bytes at a time
  // AttentionForward::dropout: [B, 2], or null: nothing is dropped; dropout_stream of head 0, DropoutRate.
  const int32_t* dropout_keys = nullptr;
  uint64_t dropout_stream = 0;
  uint32_t dropped_below = 0;
  float dropout_scale = 1;

  __host__ __device__ int group() const { return H / KV; }
};

// Of an AttentionForward or an AttentionDecode.
template <class Op>
AttentionProblem problem_of(const Op& op, const Tensor& first_key, bool vectors) {
  const AttentionShape& s = op.spec.shape;
  AttentionProblem p{int(s.B),
                     int(s.T),
                     int(s.H),
                     int(s.KV),
                     int(s.D_qk),
                     int(s.D_v),
                     float(op.spec.scale),
                     op.spec.score,
                     {},
                     floats(op.key_bias),
                     floats(op.value_bias),
                     {},
                     first_key.as<const int32_t>(),
                     op.spec.window < s.T ? int(op.spec.window) : 0,
                     nullptr,
                     nullptr,
                     vectors};
  if constexpr (requires { op.order; }) {
    p.last_key = op.last_key.template as<const int32_t>();
    p.order = op.order.template as<const int32_t>();
  }
  if constexpr (requires { op.dropout; }) {
    const DropoutRate rate = dropout_rate(op.dropout.probability);
    p.dropout_keys = op.dropout.keys.template as<const int32_t>();
    p.dropout_stream = dropout_stream(op.dropout.place, 0);
    p.dropped_below = rate.below, p.dropout_scale = float(rate.scale);
  }
  ScoreFunctions::dispatch(
      p.score, [&](auto score) { p.constants = pack_constants(constants_of<decltype(score), float>(op.spec)); });
  for (int i = 0; i < kMostLearned; ++i) p.learned[i] = floats(op.learned.at[i]);
  return p;
}

// Whether rows of every head start at multiples of 16 bytes, and end there.
template <class S, class... Tensors>
bool allow_vectors(const AttentionShape& s, const Tensors&... tensors) {
  constexpr int64_t kVector = 16 / int64_t(sizeof(S));
  return s.D_qk % kVector == 0 && s.D_v % kVector == 0 && (vectorizable(view_of(tensors)) && ...);
}

// First element of row (b, t) of a head; heads of x have D features.
template <class S>
__device__ __forceinline__ S* head_row(const Rows<S>& x, const AttentionProblem& p, int b, int t, int head, int D) {
  return x.at(int64_t(b) * p.T + t, int64_t(head) * D);
}

// Whether no row sees a key behind its own.
__device__ __forceinline__ bool is_causal(const AttentionProblem& p) { return !p.order && !p.last_key; }

// What is said of row t, or of the token at place t, where rows have an order. What lies beyond the sequence is, here
// and below, like its last row.
__device__ __forceinline__ int in_order(const AttentionProblem& p, OrderPlane plane, int b, int t) {
  return p.order[(int64_t(plane) * p.B + b) * p.T + min(t, p.T - 1)];
}

// Where the document of row t of a sequence begins.
__device__ __forceinline__ int document_of(const AttentionProblem& p, int b, int t) {
  if (p.order) return in_order(p, OrderPlane::kFirst, b, t);
  return p.first_key ? p.first_key[int64_t(b) * p.T + min(t, p.T - 1)] : 0;
}

// The first key that the row sees: of its document, and of its window. Where rows have an order, that of its window.
__device__ __forceinline__ int first_key_of(const AttentionProblem& p, int b, int t) {
  if (p.order) return in_order(p, OrderPlane::kBegin, b, t);
  const int document = document_of(p, b, t);
  return p.window > 0 ? max(document, min(t, p.T - 1) - p.window + 1) : document;
}

// Behind the last key that it sees.
__device__ __forceinline__ int end_key_of(const AttentionProblem& p, int b, int t) {
  if (p.order) return in_order(p, OrderPlane::kEnd, b, t);
  const int row = min(t, p.T - 1);
  if (!p.last_key) return row + 1;
  const int end = p.last_key[int64_t(b) * p.T + row] + 1;
  return p.window > 0 ? min(end, row + p.window) : end;
}

// How many keys it sees beside its own.
__device__ __forceinline__ int others_of(const AttentionProblem& p, int b, int t) {
  if (p.order) return in_order(p, OrderPlane::kLength, b, t) - 1;
  return (p.last_key ? end_key_of(p, b, t) - 1 : t) - first_key_of(p, b, t);
}

// Whether it sees where its document begins.
__device__ __forceinline__ bool sees_document(const AttentionProblem& p, int b, int t) {
  if (!p.order) return first_key_of(p, b, t) == document_of(p, b, t);
  const int row = in_order(p, OrderPlane::kRow, b, document_of(p, b, t));
  return row >= first_key_of(p, b, t) && row < end_key_of(p, b, t);
}

// Whether it sees the key, where rows are not causal.
__device__ __forceinline__ bool sees_key(const AttentionProblem& p, int b, int t, int key) {
  if (key < first_key_of(p, b, t) || key >= end_key_of(p, b, t)) return false;
  if (!p.order) return true;
  const int place = in_order(p, OrderPlane::kPlace, b, key);
  return place <= in_order(p, OrderPlane::kPlace, b, t) && place >= document_of(p, b, t);
}

// At which place of its document the key is, where rows are not causal.
__device__ __forceinline__ int place_of(const AttentionProblem& p, int b, int t, int key) {
  return (p.order ? in_order(p, OrderPlane::kPlace, b, key) : key) - document_of(p, b, t);
}

}  // namespace sluice::cuda
