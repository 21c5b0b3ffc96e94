// The list of score functions: kernels, configs, schema, tests and documentation all iterate this one.
#pragma once

#include "kernels/formulas/scores/clipped_softmax.h"
#include "kernels/formulas/scores/relu.h"
#include "kernels/formulas/scores/sigmoid.h"
#include "kernels/formulas/scores/sink_logit.h"
#include "kernels/formulas/scores/softmax.h"
#include "kernels/formulas/scores/softmax_plus_one.h"
#include "kernels/formulas/scores/softpick.h"

namespace sluice {

template <class... Scores>
struct ScoreList {
  // body(Score{}) for each.
  template <class Body>
  static void for_each(Body body) { (body(Scores{}), ...); }
  // body(Score{}) for the one of this kind.
  template <class Body>
  static void dispatch(ScoreKind kind, Body body) { ((Scores::kKind == kind ? (body(Scores{}), 0) : 0), ...); }
};

using ScoreFunctions = ScoreList<Softmax, SoftmaxPlusOne, SinkLogit, Sigmoid, ReluScore, ClippedSoftmax, Softpick>;

}  // namespace sluice
