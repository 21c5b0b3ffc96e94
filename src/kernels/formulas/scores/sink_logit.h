// sink_logit: p_ij = e^s_ij / (e^b_h + sum_k e^s_ik), b_h learned per head and not scaled by 1/sqrt(D). The row starts
// at reference b_h with mass 1. dL/db_h = -sum over rows of p_sink * delta, p_sink = e^(b_h - m) / l.
#pragma once

#include "kernels/formulas/scores/softmax.h"

namespace sluice {

struct SinkLogit : SoftmaxFamily {
  static constexpr LearnedList<1> kLearned{{{"sink_logit", 0}}};
  static constexpr const char* kName = "sink_logit";
  static constexpr const char* kFormula = "e^s_ij / (e^b_h + sum_k e^s_ik)";
  static constexpr const char* kSource = "gpt-oss (arXiv 2508.10925)";
  template <class T, class C>
  static SLUICE_FORMULA RowStart<T> start(T, const LearnedOfHead<T>& learned, const C&) {
    return {learned.at[0], T(1)};
  }
  template <class V, class T, class C>
  static SLUICE_FORMULA LearnedOfHead<V> d_learned(V, V m, V inv, V delta, const LearnedOfHead<T>& learned, const C&) {
    return {(V(0) - exp_of(V(learned.at[0]) - m)) * inv * delta};
  }
};

}  // namespace sluice
