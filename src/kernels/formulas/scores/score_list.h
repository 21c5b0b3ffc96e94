// A list of score functions, and the ways to walk it.
#pragma once

#include "kernels/formulas/scores/score.h"

namespace sluice {

template <class... Scores>
struct ScoreList {
  static constexpr int kSize = sizeof...(Scores);
  static_assert(((kLearnedCount<Scores> <= kMostLearned) && ...));
  static_assert(((kLearnedCount<Scores> == 0 || Scores::kNeedsDelta) && ...), "d_learned reads delta");
  static_assert(((!Scores::kOwnLearned || (Scores::kOwnDelta && kLearnedCount<Scores> == 1)) && ...),
                "the two sums over a row are taken together, and d_learned has one of its own");

  // The place of a function, which must be in the list.
  template <class Score>
  static constexpr ScoreKind kind() {
    static_assert((std::is_same_v<Score, Scores> || ...), "not in the list of score functions");
    int place = 0, at = 0;
    ((place = std::is_same_v<Score, Scores> ? at : place, ++at), ...);
    return ScoreKind(place);
  }
  // body(Score{}) for each.
  template <class Body>
  static void for_each(Body body) {
    (body(Scores{}), ...);
  }
  // body(Score{}) for the one of this kind.
  template <class Body>
  static void dispatch(ScoreKind wanted, Body body) {
    ((kind<Scores>() == wanted ? (body(Scores{}), 0) : 0), ...);
  }
};

}  // namespace sluice
