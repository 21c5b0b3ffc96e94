// taylor2: p_ij = w_ij / sum_k w_ik with w = 1 + s + s^2 / 2, the second-order Taylor polynomial of e^s. It is
// ((s + 1)^2 + 1) / 2, at least 1/2, so every key keeps a weight, and no reference is needed. dw/ds = 1 + s.
#pragma once

#include "kernels/formulas/scores/score.h"

namespace sluice {

struct Taylor2 : ScoreDefaults {
  static constexpr bool kRunningMax = false;
  static constexpr const char* kName = "taylor2";
  static constexpr const char* kFormula = "w_ij / sum_k w_ik, w = 1 + s + s^2 / 2";
  static constexpr const char* kSource = "arXiv 2510.11602";
  template <class T, class C>
  static SLUICE_FORMULA RowStart<T> start(T, const LearnedOfHead<T>&, const C&) {
    return {T(0), T(0)};
  }
  template <class V, class C>
  static SLUICE_FORMULA V weight(V s, V, const C&) {
    const V u = s + V(1);
    return (u * u + V(1)) / V(2);
  }
  template <class V, class C>
  static SLUICE_FORMULA V mass(V, V, V weight, const C&) {
    return weight;
  }
  template <class V, class C>
  static SLUICE_FORMULA V probability(V s, V m, V inv, const C& c) {
    return weight(s, m, c) * inv;
  }
  template <class V, class C>
  static SLUICE_FORMULA V d_score(V s, V, V inv, V, V dp, V delta, const C&) {
    return (s + V(1)) * inv * (dp - delta);
  }
};

}  // namespace sluice
