// A mix over depth: of each token's states, those before a sublayer, with weights that the states decide (attention
// residuals, arXiv 2603.15031). The formulas: kernels/formulas/depth_route.h. Conventions: kernels/ops.h.
#pragma once

#include <string>

#include "kernels/ops/norm.h"
#include "kernels/types/tensor.h"

namespace sluice {

// A token's states lie beside one another. Sources are the states 0, step, 2 step, ... before `last`, and then `last`.
// The first `routed` of them have a softmax's weights, and all of them `base` beside:
//
//   out = sum_m (base + alpha_m) V_m,   alpha = softmax over m < routed of query . RMSNorm(V_m; gain)
struct DepthRouteForward {
  static constexpr const char* kName = "depth_route_forward";
  static constexpr int64_t kMostSources = 512;
  Tensor states;  // [N, S*C] act, strided
  int64_t step = 1, last = 0;
  int64_t routed = 0;
  double base = 0;
  Tensor query = {}, gain = {};  // [C] acc; absent: all alpha are 1 / routed
  double epsilon = 1e-5;         // of the RMSNorm
  Tensor out;                    // [N, C] act, strided
  SLUICE_ACCESSOR int64_t sources() const { return (last + step - 1) / step + 1; }
  SLUICE_ACCESSOR int64_t state(int64_t source) const { return source * step < last ? source * step : last; }
  void for_tensors(auto f) { f(states), f(query), f(gain), f(out); }
  void check() const;
  std::string note() const;
};

// Source m's gradient has the m-th place beside one another.
struct DepthRouteBackward {
  static constexpr const char* kName = "depth_route_backward";
  DepthRouteForward forward;         // without out
  Tensor d_out;                      // [N, C] act, strided
  Tensor d_sources;                  // [N, at least sources() * C] act, strided
  bool add_to_d_sources = true;      // or overwrite those of the sources
  Tensor d_query = {}, d_gain = {};  // [C] acc; absent with the query
  bool accumulate = false;           // of these
  Tensor workspace = {};
  using Sizes = RowSums;
  Sizes sizes() const { return {d_out.cols()}; }
  void for_tensors(auto f) { forward.for_tensors(f), f(d_out), f(d_sources), f(d_query), f(d_gain), f(workspace); }
  void check() const;
  std::string note() const { return forward.note(); }
};

}  // namespace sluice
