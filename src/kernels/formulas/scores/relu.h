// relu: p_ij = relu(s_ij) / (i + 1), i the row counted from 0: the row's mass is its length.
#pragma once

#include "kernels/formulas/scores/score.h"

namespace sluice {

struct ReluScore : ScoreDefaults {
  static constexpr bool kRunningMax = false;
  static constexpr bool kNeedsDelta = false;
  static constexpr bool kNormalised = false;
  static constexpr const char* kName = "relu";
  static constexpr const char* kFormula = "relu(s_ij) / (i + 1)";
  static constexpr const char* kSource = "arXiv 2410.13835";
  template <class T, class C>
  static SLUICE_FORMULA RowStart<T> start(T row, const LearnedOfHead<T>&, const C&) {
    return {T(0), row + T(1)};
  }
  template <class V, class C>
  static SLUICE_FORMULA V weight(V s, V, const C&) {
    return select(s < V(0), V(0), s);
  }
  template <class V, class C>
  static SLUICE_FORMULA V mass(V, V, V, const C&) {
    return V(0);
  }
  template <class V, class C>
  static SLUICE_FORMULA V probability(V s, V m, V inv, const C& c) {
    return weight(s, m, c) * inv;
  }
  template <class V, class C>
  static SLUICE_FORMULA V d_score(V s, V, V inv, V, V dp, V, const C&) {
    return select(s > V(0), dp * inv, V(0));
  }
};

}  // namespace sluice
