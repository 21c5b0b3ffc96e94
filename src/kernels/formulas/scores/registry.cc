#include "kernels/formulas/scores/registry.h"

namespace sluice {

const char* learned_name(ScoreKind kind, int i) {
  const char* name = nullptr;
  ScoreFunctions::dispatch(kind, [&](auto score) {
    if constexpr (kLearnedCount < decltype(score) >> 0)
      if (i < kLearnedCount<decltype(score)>) name = score.kLearned.list[i].name;
  });
  return name;
}

}  // namespace sluice
