// What the tests must know of a score function: its formula the plain way, in double, and where it is not smooth. Each
// function has one, given by SLUICE_SCORE_REFERENCE in score_references_helper.cc or in a file of its own; without one
// the tests do not link. Nothing here calls the formulas under test.
#pragma once

#include <utility>
#include <vector>

#include "kernels/formulas/scores/registry.h"

namespace sluice {

using Values = std::vector<double>;
struct AttentionCase;

// A row: its scores s, of which `length` are keys' that are positions, and what its function is made of.
struct ScoreRow {
  const Values& s;
  double length;
  const LearnedOfHead<double>& learned;
  const ScoreConstants& packed;

  template <class Score>
  auto constants() const {
    return unpack_constants<typename Score::template Constants<double>>(packed);
  }
};

struct ScoreReference {
  // The weights by the published formula, without any shift; exponents stay below e^709 here.
  Values (*weights)(const ScoreRow& row);
  // The row's reference m and 1 / its normaliser, or what the function keeps in their place.
  std::pair<double, double> (*stats)(const ScoreRow& row);
  ScoreConstants unusual = {};  // constants other than the defaults
  // A rounding of all exponentials changes weights by that share of their sum, or of this if it is more.
  double (*stretch)(const ScoreConstants& constants) = [](const ScoreConstants&) { return 0.0; };
  // Changes the constants of a case, or what is learned, away from a kink elsewhere than at scores of 0; null: there is
  // none.
  void (*avoid_kinks)(AttentionCase& problem) = nullptr;
  bool log_sums = false;  // the row's reference is a log-sum-exp, whose error is also the sum's
};

template <class Score>
ScoreReference score_reference();

#define SLUICE_SCORE_REFERENCE(Score, ...)  \
  template <>                               \
  ScoreReference score_reference<Score>() { \
    return __VA_ARGS__;                     \
  }

inline ScoreReference reference_of(ScoreKind kind) {
  ScoreReference out{};
  ScoreFunctions::dispatch(kind, [&](auto score) { out = score_reference<decltype(score)>(); });
  return out;
}

inline ScoreConstants default_constants(ScoreKind kind) {
  ScoreConstants out;
  ScoreFunctions::dispatch(
      kind, [&](auto score) { out = pack_constants(typename decltype(score)::template Constants<double>{}); });
  return out;
}

// How many numbers the function learns for each head.
inline size_t learned_count(ScoreKind kind) {
  int count = 0;
  while (count < kMostLearned && learned_name(kind, count)) ++count;
  return size_t(count);
}

}  // namespace sluice
