// The list of score functions: kernels, configs, schema, presets, tests and documentation all iterate this one.
#pragma once

#include "kernels/formulas/scores/clipped_softmax.h"
#include "kernels/formulas/scores/elastic_softmax.h"
#include "kernels/formulas/scores/relu.h"
#include "kernels/formulas/scores/score_list.h"
#include "kernels/formulas/scores/sigmoid.h"
#include "kernels/formulas/scores/sink_logit.h"
#include "kernels/formulas/scores/softmax.h"
#include "kernels/formulas/scores/softmax_plus_one.h"
#include "kernels/formulas/scores/softpick.h"
#include "kernels/formulas/scores/taylor2.h"
#include "kernels/formulas/scores/threshold.h"

namespace sluice {

using ScoreFunctions = ScoreList<Softmax, SoftmaxPlusOne, SinkLogit, Sigmoid, ReluScore, ClippedSoftmax, Softpick,
                                 Taylor2, ElasticSoftmax, Threshold>;

// The place of a function in the list.
template <class Score>
inline constexpr ScoreKind kind_of = ScoreFunctions::kind<Score>();
static_assert(kind_of<Softmax> == ScoreKind::kSoftmax);

}  // namespace sluice
