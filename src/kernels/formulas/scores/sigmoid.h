// sigmoid: p_ij = sigmoid(s_ij + b), not normalised; b constant, optionally minus log of the row's length i + 1, which
// the row's reference carries.
#pragma once

#include "kernels/formulas/scores/score.h"

namespace sluice {

struct Sigmoid : ScoreDefaults {
  static constexpr bool kRunningMax = false;
  static constexpr bool kNeedsDelta = false;
  static constexpr bool kNormalised = false;
  template <class T>
  struct Constants {
    T bias = T(0);
    bool minus_log_length = false;

    template <class U>
    SLUICE_FORMULA Constants<U> as() const {
      return {U(bias), minus_log_length};
    }
    template <class Fields>
    void describe(Fields& f) {
      f.add("bias", bias, "added to every score").range(-1e4, 1e4);
      f.add("minus_log_length", minus_log_length, "also subtract log(i + 1) in row i");
    }
  };

  static constexpr const char* kName = "sigmoid";
  static constexpr const char* kFormula = "sigmoid(s_ij + b)";
  static constexpr const char* kSource = "arXiv 2410.10781 (b = 0); arXiv 2409.04431 (b = -log length)";
  template <class T, class C>
  static SLUICE_FORMULA RowStart<T> start(T row, const LearnedOfHead<T>&, const C& c) {
    return {c.minus_log_length ? log_of(row + T(1)) : T(0), T(1)};
  }
  template <class V, class C>
  static SLUICE_FORMULA V weight(V s, V m, const C& c) {
    return sigmoid_of(s + V(c.bias) - m);
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
  static SLUICE_FORMULA V d_score(V, V, V, V p, V dp, V, const C&) {
    return dp * p * (V(1) - p);
  }
};

}  // namespace sluice
