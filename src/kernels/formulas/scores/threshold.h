// threshold: p_ij = relu(s_ij - tau_i)^2 with tau_i = beta sqrt(2 ln(i + 1) / D), of unit queries and keys: tau_i is
// about what the largest of i + 1 products with random unit vectors in D dimensions is, so that what chance brings
// stays below it. No normaliser, and s_ij = q_i . k_j is not divided by sqrt(D). The row's reference is tau_i.
#pragma once

#include "kernels/formulas/scores/score.h"

namespace sluice {

struct Threshold : ScoreDefaults {
  static constexpr bool kRunningMax = false;
  static constexpr bool kScaled = false;
  static constexpr bool kNeedsDelta = false;
  static constexpr bool kNormalised = false;
  template <class T>
  struct Constants {
    T beta = T(1);
    T features = T(64);  // D

    template <class U>
    SLUICE_FORMULA Constants<U> as() const {
      return {U(beta), U(features)};
    }
    template <class Fields>
    void describe(Fields& f) {
      f.add("beta", beta, "row i's threshold is beta sqrt(2 ln(i + 1) / the features of a query)").range(0, 100);
    }
    void resolve(const ScoreSizes& sizes) { features = T(sizes.features); }
  };

  static constexpr const char* kName = "threshold";
  static constexpr const char* kFormula = "relu(s_ij - tau_i)^2, tau_i = beta sqrt(2 ln(i + 1) / D)";
  static constexpr const char* kSource = "TDA (arXiv 2601.12145)";
  template <class T, class C>
  static SLUICE_FORMULA RowStart<T> start(T row, const LearnedOfHead<T>&, const C& c) {
    return {c.beta * sqrt_of(T(2) * log_of(row + T(1)) / c.features), T(1)};
  }
  template <class V, class C>
  static SLUICE_FORMULA V weight(V s, V m, const C&) {
    const V above = s - m;
    return select(above < V(0), V(0), above * above);
  }
  template <class V, class C>
  static SLUICE_FORMULA V mass(V, V, V, const C&) {
    return V(0);
  }
  template <class V, class C>
  static SLUICE_FORMULA V probability(V s, V m, V, const C& c) {
    return weight(s, m, c);
  }
  template <class V, class C>
  static SLUICE_FORMULA V d_score(V s, V m, V, V, V dp, V, const C&) {
    return select(s > m, V(2) * (s - m) * dp, V(0));
  }
};

}  // namespace sluice
