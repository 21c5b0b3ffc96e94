// softmax: p_ij = e^s_ij / sum_k e^s_ik.
#pragma once

#include "kernels/formulas/scores/score.h"

namespace sluice {

// The parts that every function of the softmax family shares; they differ in where the row sum starts.
struct SoftmaxFamily : ScoreDefaults {
  static constexpr bool kOnlyStart = true;  // to be false in a function that redefines more
  template <class V, class C>
  static SLUICE_FORMULA V weight(V s, V m, const C&) {
    return exp_of(s - m);
  }
  template <class V, class C>
  static SLUICE_FORMULA V mass(V, V, V weight, const C&) {
    return weight;
  }
  template <class V, class C>
  static SLUICE_FORMULA V probability(V s, V m, V inv, const C&) {
    return exp_of(s - m) * inv;
  }
  template <class V, class C>
  static SLUICE_FORMULA V d_score(V, V, V, V p, V dp, V delta, const C&) {
    return p * (dp - delta);
  }
};

struct Softmax : SoftmaxFamily {
  static constexpr const char* kName = "softmax";
  static constexpr const char* kFormula = "e^s_ij / sum_k e^s_ik";
  static constexpr const char* kSource = "the baseline (arXiv 1706.03762)";
  template <class T, class C>
  static SLUICE_FORMULA RowStart<T> start(T /*row*/, const LearnedOfHead<T>&, const C&) {
    return {kMinusInfinity<T>, T(0)};
  }
};

}  // namespace sluice
