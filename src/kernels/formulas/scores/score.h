// What a score function is. Row i of the attention weights is a function of its scores s_ij = scale * q_i . k_j, j <=
// i:
//
//   p_ij = weight(s_ij, m_i) * inv_i       inv_i = 1 / l_i       l_i = mass0 + sum_j mass(s_ij, m_i)
//
// m_i is the row's reference: for exponentials a running maximum that keeps them in range, else a constant. Going from
// reference m to m', everything summed so far is multiplied by e^(m - m'). A function that is not linear in its
// unnormalised weights (clipped_softmax) sets kTwoPass: statistics first, then `probability` of every score. Such a
// function may have two other numbers of its own in the place of m_i and inv_i, which `finish` makes of m_i, l_i, the
// row's length and what is learned (elastic_softmax): whatever comes after is given those.
//
// Backward, with dp_ij = dO_i . v_j and delta_i = sum_j p_ij dp_ij = dO_i . O_i (or, for kOwnDelta, the row sum of
// delta_term):   dL/ds_ij = d_score(s_ij, m_i, inv_i, p_ij, dp_ij, delta_i, constants).
//
// A function owns its constants: a struct `Constants<T>` (clipped_softmax.h) whose `describe` adds the keys that
// model.attention.score has for them, with limits and words. The kernels see them in their arithmetic's type. It may
// also learn numbers per head that `start` or `finish` reads, as sinks do (sink_logit.h): kLearned names them, and
// their gradients are the sums over a head's rows of d_learned(row, m_i, inv_i, delta_i, ...), which is delta_i times
// something; or, for kOwnLearned, the row sum of learned_term in the place of delta_i.
//
// A new function is one file like softmax.h here, its Python beside it, and one line in registry.h; its template
// parameter V is a float, a double or a SIMD vector, so the CPU and GPU kernels run the same text. Masked scores never
// reach these formulas' results.
#pragma once

#include <type_traits>

#include "kernels/formulas/math.h"
#include "kernels/types/attention_types.h"

namespace sluice {

// The row state before the first key.
template <class V>
struct RowStart {
  V reference, mass;
};

// What is kept of a row: m_i and inv_i, or what a function has in their place.
template <class V>
struct RowStats {
  V reference, inverse;
};

// ---- constants -----------------------------------------------------------------------------------------------------

// Of the model, for a function whose constants have `resolve(sizes)`.
struct ScoreSizes {
  int64_t context, features;  // of a query or key
};

template <class T>
struct NoConstants {
  template <class U>
  SLUICE_FORMULA NoConstants<U> as() const {
    return {};
  }
  template <class Fields>
  void describe(Fields&) {}
};

template <class Constants>
SLUICE_FORMULA ScoreConstants pack_constants(const Constants& constants) {
  static_assert(sizeof(Constants) <= sizeof(ScoreConstants) && alignof(Constants) <= alignof(ScoreConstants));
  static_assert(std::is_trivially_copyable_v<Constants>);
  ScoreConstants block;
  __builtin_memcpy(block.bytes, &constants, sizeof(Constants));
  return block;
}

template <class Constants>
SLUICE_FORMULA Constants unpack_constants(const ScoreConstants& block) {
  Constants out;
  if constexpr (!std::is_empty_v<Constants>) __builtin_memcpy(&out, block.bytes, sizeof(Constants));
  return out;
}

// Those of a spec, as arithmetic in T reads them.
template <class Score, class T>
SLUICE_FORMULA typename Score::template Constants<T> constants_of(const AttentionSpec& spec) {
  return unpack_constants<typename Score::template Constants<double>>(spec.constants).template as<T>();
}

// ---- learned numbers -----------------------------------------------------------------------------------------------

struct LearnedPerHead {
  const char* name;  // the parameter is called blocks.L.attention.NAME, [H]
  double initial;
};

template <int kCount>
struct LearnedList {
  static constexpr int kSize = kCount;
  LearnedPerHead list[kCount];
};
template <>
struct LearnedList<0> {
  static constexpr int kSize = 0;
};

// What one head has learned, in the order of kLearned; or gradients of that.
template <class V>
struct LearnedOfHead {
  V at[kMostLearned];
};

template <class Score>
inline constexpr int kLearnedCount = std::remove_cv_t<decltype(Score::kLearned)>::kSize;

// ---- traits that most functions share ------------------------------------------------------------------------------

struct ScoreDefaults {
  static constexpr bool kRunningMax = true;  // the reference follows the row's maximum
  static constexpr bool kTwoPass = false;
  static constexpr bool kScaled = true;       // scores are divided by sqrt(D_qk)
  static constexpr bool kNormalised = true;   // weights are shares of one whole: a key more changes the others'
  static constexpr bool kNeedsDelta = true;   // d_score or d_learned reads delta
  static constexpr bool kOwnDelta = false;    // delta is not dO . O: sum delta_term over the row
  static constexpr bool kOwnLearned = false;  // d_learned reads the row sum of learned_term instead of delta
  static constexpr bool kOnlyStart =
      false;  // is SoftmaxFamily but for `start` and what it learns: may share its kernels
  static constexpr LearnedList<0> kLearned{};
  template <class T>
  using Constants = NoConstants<T>;
  // `row`: keys that are positions before the row's own. To be redefined with kTwoPass alone.
  template <class T, class C>
  static SLUICE_FORMULA RowStats<T> finish(T m, T mass, T /*row*/, const LearnedOfHead<T>&, const C&) {
    return {m, T(1) / mass};
  }
};

template <class V>
inline constexpr V kMinusInfinity = V(-__builtin_huge_val());

}  // namespace sluice
