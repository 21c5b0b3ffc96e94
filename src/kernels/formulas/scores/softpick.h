// softpick: p_ij = relu(e^s_ij - 1) / (sum_k |e^s_ik - 1| + epsilon), multiplied through by e^-m with m = max(0, max
// s).
#pragma once

#include "kernels/formulas/scores/score.h"

namespace sluice {

struct Softpick : ScoreDefaults {
  template <class T>
  struct Constants {
    T epsilon = T(1e-8);

    template <class U>
    SLUICE_FORMULA Constants<U> as() const {
      return {U(epsilon)};
    }
    template <class Fields>
    void describe(Fields& f) {
      f.add("epsilon", epsilon, "added to the denominator").range(1e-30, 1);
    }
  };

  static constexpr const char* kName = "softpick";
  static constexpr const char* kFormula = "relu(e^s_ij - 1) / (sum_k |e^s_ik - 1| + eps)";
  static constexpr const char* kSource = "arXiv 2504.20966";
  template <class T, class C>
  static SLUICE_FORMULA RowStart<T> start(T, const LearnedOfHead<T>&, const C& c) {
    return {T(0), c.epsilon};
  }
  // e^(s-m) - e^-m = e^-m expm1(s): the difference loses digits for small s, where both terms are near e^-m.
  template <class V>
  static SLUICE_FORMULA V signed_weight(V s, V m) {
    return exp_of(s - m) - exp_of(V(0) - m);
  }
  template <class V, class C>
  static SLUICE_FORMULA V weight(V s, V m, const C&) {
    const V w = signed_weight(s, m);
    return select(w < V(0), V(0), w);
  }
  template <class V, class C>
  static SLUICE_FORMULA V mass(V s, V m, V, const C&) {
    return abs_of(signed_weight(s, m));
  }
  template <class V, class C>
  static SLUICE_FORMULA V probability(V s, V m, V inv, const C& c) {
    return weight(s, m, c) * inv;
  }
  // dp_j/ds_k = e^s_k / l * (1[s_k > 0, j = k] - sign(s_k) p_j)
  template <class V, class C>
  static SLUICE_FORMULA V d_score(V s, V m, V inv, V, V dp, V delta, const C&) {
    const V e = exp_of(s - m) * inv;
    return e * (select(s > V(0), dp, V(0)) - select(s > V(0), delta, select(s < V(0), V(0) - delta, V(0))));
  }
};

}  // namespace sluice
