// clipped_softmax: p_ij = clip((zeta - gamma) softmax_ij + gamma, 0, 1), gamma <= 0 <= 1 <= zeta: small weights become
// exactly 0 and get no gradient. Not linear in the unnormalised weights, hence two passes over the keys.
#pragma once

#include "kernels/formulas/scores/softmax.h"

namespace sluice {

struct ClippedSoftmax : SoftmaxFamily {
  static constexpr bool kTwoPass = true;
  static constexpr bool kOwnDelta = true;
  static constexpr bool kOnlyStart = false;
  // gamma and zeta: the stretch.
  template <class T>
  struct Constants {
    T gamma = T(-0.03), alpha = T(0), zeta = T(1);

    template <class U>
    SLUICE_FORMULA Constants<U> as() const {
      return {U(gamma), U(alpha), U(zeta)};
    }
    template <class Fields>
    void describe(Fields& f) {
      f.add("gamma", gamma, "lower end of the stretched range; below 0 small weights become exactly 0").range(-10, 0);
      f.add("alpha", alpha, "above 0: gamma is -alpha / model.context instead").range(0, 1e4);
      f.add("zeta", zeta, "upper end of the stretched range").range(1, 10);
    }
    void resolve(const ScoreSizes& sizes) {
      if (alpha > 0) gamma = -alpha / T(sizes.context);
    }
    const char* tied_to_context() const { return alpha > 0 ? "the clipped softmax has gamma = -alpha / context" : ""; }
  };

  static constexpr const char* kName = "clipped_softmax";
  static constexpr const char* kFormula = "clip((zeta - gamma) softmax_ij + gamma, 0, 1)";
  static constexpr const char* kSource = "arXiv 2306.12929";
  template <class T, class C>
  static SLUICE_FORMULA RowStart<T> start(T, const LearnedOfHead<T>&, const C&) {
    return {kMinusInfinity<T>, T(0)};
  }
  template <class V, class C>
  static SLUICE_FORMULA V probability(V s, V m, V inv, const C& c) {
    const V stretched = V(c.zeta - c.gamma) * (exp_of(s - m) * inv) + V(c.gamma);
    return select(stretched < V(0), V(0), select(stretched > V(1), V(1), stretched));
  }
  // The gradient that reaches the softmax below the clip.
  template <class V, class C>
  static SLUICE_FORMULA V d_softmax(V softmax, V dp, const C& c) {
    const V stretched = V(c.zeta - c.gamma) * softmax + V(c.gamma);
    return select(stretched < V(0), V(0), select(stretched > V(1), V(0), V(c.zeta - c.gamma) * dp));
  }
  template <class V, class C>
  static SLUICE_FORMULA V delta_term(V s, V m, V inv, V dp, const C& c) {
    const V softmax = exp_of(s - m) * inv;
    return softmax * d_softmax(softmax, dp, c);
  }
  template <class V, class C>
  static SLUICE_FORMULA V d_score(V s, V m, V inv, V, V dp, V delta, const C& c) {
    const V softmax = exp_of(s - m) * inv;
    return softmax * (d_softmax(softmax, dp, c) - delta);
  }
};

}  // namespace sluice
