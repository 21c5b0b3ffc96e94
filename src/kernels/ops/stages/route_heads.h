// Mixture of heads (arXiv 2410.11842): heads scaled by factors that are 0 for those which a row does not take, a loss
// that has all be taken alike, and logits that are lengths of queries. The formulas: kernels/formulas/route_heads.h.
// Conventions: kernels/ops.h.
#pragma once

#include "kernels/formulas/route_heads.h"
#include "kernels/types/tensor.h"

namespace sluice {

// out_h = factor_h x_h
struct RouteHeadsForward {
  static constexpr const char* kName = "route_heads_forward";
  HeadRouting routing;
  Tensor x;       // [N, H*D] act, strided
  Tensor logits;  // [N, routing.logits()] act, strided
  Tensor out;     // [N, H*D] act, strided; may be x
  void for_tensors(auto f) { f(x), f(logits), f(out); }
  void check() const;
};

// d_x may be d_out.
struct RouteHeadsBackward {
  static constexpr const char* kName = "route_heads_backward";
  RouteHeadsForward forward;  // without out
  Tensor d_out;               // [N, H*D] act, strided
  Tensor d_x;                 // [N, H*D] act, strided
  Tensor d_logits;            // as logits
  void for_tensors(auto f) { forward.for_tensors(f), f(d_out), f(d_x), f(d_logits); }
  void check() const;
};

// Of each sequence of T rows, with p the softmax of a row's E routed logits and means over its rows,
//
//   L = E / K sum_e mean(p_e) mean(m_e),   loss += value_scale sum over sequences of L
//   d_logits += grad_scale dL/d(logits) of the routed heads, m a constant
//
// L is 1 where all heads are taken alike.
struct RouteBalance {
  static constexpr const char* kName = "route_balance";
  HeadRouting routing;
  int64_t T = 0;
  double value_scale = 0, grad_scale = 0;
  Tensor logits;    // [N, routing.logits()] act, strided
  Tensor d_logits;  // the same
  Tensor loss;      // [1] acc
  void for_tensors(auto f) { f(logits), f(d_logits), f(loss); }
  void check() const;
};

// logits_e = |q_e| / sigma, e over the heads behind the first `shared` of them.
struct QueryLengthsForward {
  static constexpr const char* kName = "query_lengths_forward";
  int64_t heads = 0, shared = 0;
  Tensor q;       // [N, H*D] act, strided
  Tensor logits;  // [N, H - shared] act, strided
  void for_tensors(auto f) { f(q), f(logits); }
  void check() const;
};

// d_q += what came from the logits
struct QueryLengthsBackward {
  static constexpr const char* kName = "query_lengths_backward";
  int64_t heads = 0, shared = 0;
  Tensor q;         // [N, H*D] act, strided
  Tensor d_logits;  // [N, H - shared] act, strided
  Tensor d_q;       // [N, H*D] act, strided
  void for_tensors(auto f) { f(q), f(d_logits), f(d_q); }
  void check() const;
};

}  // namespace sluice
