// Attention, causal or over both sides, and the positions of its queries and keys. Conventions: kernels/ops.h.
#pragma once

#include <string>

#include "kernels/ops/dropout.h"
#include "kernels/types/attention_types.h"
#include "kernels/types/tensor.h"

namespace sluice {

// Rotary positions, in place: features i and i + D/2 of every head are a pair (a, b) that is turned by its row's angle
// to (a cos - b sin, b cos + a sin). `inverse` turns back, which is the gradient.
struct Rope {
  static constexpr const char* kName = "rope";
  Tensor x;      // [N, H*D] act, strided; row n is at position first_position + n % T
  Tensor table;  // [> last position, D] acc: of each position D/2 cosines, then D/2 sines
  int64_t T = 0;
  int64_t first_position = 0;
  bool inverse = false;
  void for_tensors(auto f) { f(x), f(table); }
  void check() const;
};

// [H] acc each: what the score function learns for each head, in the order in which it names them; the others are
// absent.
struct LearnedTensors {
  Tensor at[kMostLearned];
  void for_tensors(auto f) {
    for (Tensor& one : at) f(one);
  }
};

struct AttentionForward {
  static constexpr const char* kName = "attention_forward";
  AttentionSpec spec;
  Tensor q;                     // [N, H*D_qk] act, strided
  Tensor k;                     // [N, KV*D_qk] act, strided
  Tensor v;                     // [N, KV*D_v] act, strided
  Tensor key_bias = {};         // [KV, D_qk] acc: one extra key every query sees
  Tensor value_bias = {};       // [KV, D_v] acc: its value; absent means zero
  LearnedTensors learned = {};  // of the score function
  // [N] i32, or absent for 0: row i attends to keys first_key[i] .. i of its sequence, so that documents packed into
  // one do not see each other. 0 <= first_key[i] <= i, never decreasing in a sequence. With spec.window a row's first
  // key is the later of this one and i - window + 1. Row lengths count from there.
  Tensor first_key = {};
  // [N] i32, or absent for causal attention: row i attends to keys first_key[i] .. last_key[i], on both sides of it;
  // the rows between these have the same two, so that a row sees those that see it. With spec.window the keys less than
  // so many rows away, before it and behind it.
  Tensor last_key = {};
  // [7, N] i32, or absent: an OrderPlane after the other, where rows are in another order than their sequence's. Row i
  // then attends to the rows j of its window, kBegin[i] <= j < kEnd[i], whose places it may see, kFirst[i] <= kPlace[j]
  // <= kPlace[i]; j is in i's window where i is in j's. Not with first_key, last_key or spec.window.
  Tensor order = {};
  // Of the weights: O_i = sum_j m_ij p_ij v_j / (1 - p), with p_ij, and stats, as they are without.
  DropoutMask dropout = {};
  Tensor out;    // [N, H*D_v] act, strided
  Tensor stats;  // [2, B, H, T] acc: each row's reference m, then the inverses of their normalisers (RowStats, score.h)
  void for_tensors(auto f) {
    f(q), f(k), f(v), f(key_bias), f(value_bias), learned.for_tensors(f), f(first_key), f(last_key), f(order),
        f(dropout.keys), f(out), f(stats);
  }
  std::string note() const;
  void check() const;
  void check_values() const;
};

struct AttentionBackward {
  static constexpr const char* kName = "attention_backward";
  AttentionForward forward;                   // as it was run; out and stats hold its results
  Tensor d_out;                               // [N, H*D_v] act, strided
  Tensor d_q, d_k, d_v;                       // like q, k, v; overwritten
  Tensor d_key_bias = {}, d_value_bias = {};  // acc, like their parameters
  LearnedTensors d_learned = {};
  bool accumulate = false;  // of the parameters' gradients
  Tensor workspace = {};
  struct Sizes {
    AttentionShape shape;
    DType act = DType::kF32;
  };
  Sizes sizes() const { return {forward.spec.shape, forward.q.dtype}; }
  void for_tensors(auto f) {
    forward.for_tensors(f), f(d_out), f(d_q), f(d_k), f(d_v), f(d_key_bias), f(d_value_bias), d_learned.for_tensors(f),
        f(workspace);
  }
  std::string note() const { return forward.note(); }
  void check() const;
  void check_values() const;
};

// Per query row, for the probes; computed from the same tiles, no [T, T] matrix.
struct AttentionProbe {
  static constexpr const char* kName = "attention_probe";
  AttentionForward forward;  // stats hold the results of a forward run
  // [B, H, T] acc: a_if, f = first_key[i], the first position of the row's document. With a window: 0 where the row
  // does not see it. Where rows have an order, i counts them, and the others of s_ij are those that the row sees.
  Tensor sink_attention;
  // [B, H, T] acc: s_if - mean over f < j < i of s_ij; 0 there and for i < f + 2. Over both sides: the mean is over all
  // keys that the row sees but f and its own.
  Tensor sink_logit_gap;
  void for_tensors(auto f) { forward.for_tensors(f), f(sink_attention), f(sink_logit_gap); }
  void check() const;
  void check_values() const;
};

// A decoder's step: one query a sequence against cached keys and values, O = sum over j < length of p_j v_j, as the
// last row of AttentionForward over `length` positions; with a window over the last of them alone.
struct AttentionDecode {
  static constexpr const char* kName = "attention_decode";
  AttentionSpec spec;                     // shape: B sequences, T rows of the cache for each
  int64_t length = 0;                     // rows of every sequence that are filled: 1 .. T
  Tensor q;                               // [B, H*D_qk] act, strided
  Tensor k, v;                            // [B*T, KV*D_qk], [B*T, KV*D_v] act, strided
  Tensor key_bias = {}, value_bias = {};  // as in AttentionForward
  LearnedTensors learned = {};
  Tensor out;  // [B, H*D_v] act, strided
  Tensor workspace = {};
  struct Sizes {
    AttentionShape shape;
    DType act = DType::kF32;
  };
  Sizes sizes() const { return {spec.shape, q.dtype}; }
  void for_tensors(auto f) {
    f(q), f(k), f(v), f(key_bias), f(value_bias), learned.for_tensors(f), f(out), f(workspace);
  }
  void check() const;
};

}  // namespace sluice
