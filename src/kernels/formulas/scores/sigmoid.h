// sigmoid: p_ij = sigmoid(s_ij + b), not normalised; b constant, optionally minus log of the row's length i + 1, which
// the row's reference carries.
#pragma once

#include "kernels/formulas/scores/score.h"

namespace sluice {

struct Sigmoid : ScoreDefaults {
  static constexpr bool kRunningMax = false;
  static constexpr bool kNeedsDelta = false;
  static constexpr ScoreKind kKind = ScoreKind::kSigmoid;
  static constexpr const char* kName = "sigmoid";
  static constexpr const char* kFormula = "sigmoid(s_ij + b)";
  static constexpr const char* kSource = "arXiv 2410.10781 (b = 0); arXiv 2409.04431 (b = -log length)";
  template <class T>
  static SLUICE_FORMULA RowStart<T> start(T row, T, const ScoreValues<T>& c) {
    return {c.bias_minus_log_length ? log_of(row + T(1)) : T(0), T(1)};
  }
  template <class V, class T>
  static SLUICE_FORMULA V weight(V s, V m, const ScoreValues<T>& c) { return sigmoid_of(s + V(c.bias) - m); }
  template <class V, class T>
  static SLUICE_FORMULA V mass(V, V, V, const ScoreValues<T>&) { return V(0); }
  template <class V, class T>
  static SLUICE_FORMULA V probability(V s, V m, V, const ScoreValues<T>& c) { return weight(s, m, c); }
  template <class V, class T>
  static SLUICE_FORMULA V d_score(V, V, V, V p, V dp, V, const ScoreValues<T>&) { return dp * p * (V(1) - p); }
};

}  // namespace sluice
