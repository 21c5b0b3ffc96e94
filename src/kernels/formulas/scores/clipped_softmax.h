// clipped_softmax: p_ij = clip((zeta - gamma) softmax_ij + gamma, 0, 1), gamma <= 0 <= 1 <= zeta: small weights become
// exactly 0 and get no gradient. Not linear in the unnormalised weights, hence two passes over the keys.
#pragma once

#include "kernels/formulas/scores/softmax.h"

namespace sluice {

struct ClippedSoftmax : SoftmaxFamily {
  static constexpr bool kTwoPass = true;
  static constexpr bool kOwnDelta = true;
  static constexpr bool kOnlyStart = false;
  static constexpr ScoreKind kKind = ScoreKind::kClippedSoftmax;
  static constexpr const char* kName = "clipped_softmax";
  static constexpr const char* kFormula = "clip((zeta - gamma) softmax_ij + gamma, 0, 1)";
  static constexpr const char* kSource = "arXiv 2306.12929";
  template <class T>
  static SLUICE_FORMULA RowStart<T> start(T, T, const ScoreValues<T>&) { return {kMinusInfinity<T>, T(0)}; }
  template <class V, class T>
  static SLUICE_FORMULA V probability(V s, V m, V inv, const ScoreValues<T>& c) {
    const V stretched = V(c.zeta - c.gamma) * (exp_of(s - m) * inv) + V(c.gamma);
    return select(stretched < V(0), V(0), select(stretched > V(1), V(1), stretched));
  }
  // The gradient that reaches the softmax below the clip.
  template <class V, class T>
  static SLUICE_FORMULA V d_softmax(V softmax, V dp, const ScoreValues<T>& c) {
    const V stretched = V(c.zeta - c.gamma) * softmax + V(c.gamma);
    return select(stretched < V(0), V(0), select(stretched > V(1), V(0), V(c.zeta - c.gamma) * dp));
  }
  template <class V, class T>
  static SLUICE_FORMULA V delta_term(V s, V m, V inv, V dp, const ScoreValues<T>& c) {
    const V softmax = exp_of(s - m) * inv;
    return softmax * d_softmax(softmax, dp, c);
  }
  template <class V, class T>
  static SLUICE_FORMULA V d_score(V s, V m, V inv, V, V dp, V delta, const ScoreValues<T>& c) {
    const V softmax = exp_of(s - m) * inv;
    return softmax * (d_softmax(softmax, dp, c) - delta);
  }
};

}  // namespace sluice
