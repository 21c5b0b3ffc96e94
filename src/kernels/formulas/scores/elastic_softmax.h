// elastic_softmax: p_ij = relu(softmax_ij + tau_h / n_i), n_i = i + 1 the keys of the row that are positions, tau_h
// learned per head, -1 at the start: weights below the mean of a row become exactly 0 and get no gradient. What is kept
// of a row is its log-sum-exp and its offset tau_h / n_i in the place of m_i and inv_i. With a the softmax and g_ij =
// dp_ij where p_ij > 0, else 0:   ds_ij = a_ij (g_ij - sum_k a_ik g_ik),   dtau_h = sum over i, j of g_ij / n_i.
#pragma once

#include "kernels/formulas/scores/softmax.h"

namespace sluice {

struct ElasticSoftmax : SoftmaxFamily {
  static constexpr bool kTwoPass = true;
  static constexpr bool kOwnDelta = true;
  static constexpr bool kOwnLearned = true;
  static constexpr bool kOnlyStart = false;
  static constexpr LearnedList<1> kLearned{{{"softmax_offset", -1}}};
  static constexpr const char* kName = "elastic_softmax";
  static constexpr const char* kFormula = "relu(softmax_ij + tau_h / (i + 1)), tau_h learned";
  static constexpr const char* kSource = "arXiv 2601.00919";
  template <class T, class C>
  static SLUICE_FORMULA RowStart<T> start(T, const LearnedOfHead<T>&, const C&) {
    return {kMinusInfinity<T>, T(0)};
  }
  template <class T, class C>
  static SLUICE_FORMULA RowStats<T> finish(T m, T mass, T row, const LearnedOfHead<T>& learned, const C&) {
    return {m + log_of(mass), learned.at[0] / (row + T(1))};
  }
  template <class V, class C>
  static SLUICE_FORMULA V probability(V s, V log_sum, V offset, const C&) {
    const V p = exp_of(s - log_sum) + offset;
    return select(p < V(0), V(0), p);
  }
  // The gradient that reaches the softmax below the relu, and the offset.
  template <class V, class C>
  static SLUICE_FORMULA V learned_term(V s, V log_sum, V offset, V dp, const C&) {
    return select(exp_of(s - log_sum) + offset > V(0), dp, V(0));
  }
  template <class V, class C>
  static SLUICE_FORMULA V delta_term(V s, V log_sum, V offset, V dp, const C& c) {
    return exp_of(s - log_sum) * learned_term(s, log_sum, offset, dp, c);
  }
  template <class V, class C>
  static SLUICE_FORMULA V d_score(V s, V log_sum, V offset, V, V dp, V delta, const C& c) {
    return exp_of(s - log_sum) * (learned_term(s, log_sum, offset, dp, c) - delta);
  }
  template <class V, class T, class C>
  static SLUICE_FORMULA LearnedOfHead<V> d_learned(V row, V, V, V sum, const LearnedOfHead<T>&, const C&) {
    return {sum / (row + V(1))};
  }
};

}  // namespace sluice
