#include "model/config/score.h"

#include <cmath>

#include "base/error.h"

namespace sluice {

std::vector<std::string> score_names() {
  std::vector<std::string> names;
  ScoreFunctions::for_each([&](auto score) { names.emplace_back(score.kName); });
  return names;
}

void ScoreConfig::describe(Fields& f) {
  f.add("type", type, "the score function: how a row of scores becomes attention weights").one_of(score_names());
  ScoreFunctions::for_each([&](auto score) {
    const size_t before = f.list().size();
    std::get<size_t(kind_of<decltype(score)>)>(constants_).describe(f);
    for (size_t i = before; i < f.list().size(); ++i) f.list()[i]->when("type", {score.kName});
  });
}

ScoreKind ScoreConfig::kind() const {
  const std::vector<std::string> names = score_names();
  size_t place = 0;
  while (place < names.size() && names[place] != type) ++place;
  check(place < names.size(), "an unlisted score function passed the config check");
  return ScoreKind(place);
}

ScoreConstants ScoreConfig::constants(const ScoreSizes& sizes) const {
  ScoreConstants out;
  ScoreFunctions::dispatch(kind(), [&](auto score) {
    auto constants = of<decltype(score)>();
    if constexpr (requires { constants.resolve(sizes); }) constants.resolve(sizes);
    out = pack_constants(constants);
  });
  return out;
}

double ScoreConfig::scale(int64_t features) const {
  bool scaled = true;
  ScoreFunctions::dispatch(kind(), [&](auto score) { scaled = score.kScaled; });
  return scaled ? 1.0 / std::sqrt(double(features)) : 1.0;
}

std::vector<LearnedPerHead> ScoreConfig::learned() const {
  std::vector<LearnedPerHead> out;
  ScoreFunctions::dispatch(kind(), [&](auto score) {
    if constexpr (kLearnedCount < decltype(score) >> 0)
      out.assign(std::begin(score.kLearned.list), std::end(score.kLearned.list));
  });
  return out;
}

bool ScoreConfig::normalised() const {
  bool out = true;
  ScoreFunctions::dispatch(kind(), [&](auto score) { out = score.kNormalised; });
  return out;
}

std::string ScoreConfig::tied_to_context() const {
  std::string out;
  ScoreFunctions::dispatch(kind(), [&](auto score) {
    const auto& constants = of<decltype(score)>();
    if constexpr (requires { constants.tied_to_context(); }) out = constants.tied_to_context();
  });
  return out;
}

}  // namespace sluice
