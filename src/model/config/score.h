// The score function as data: which one, and the constants that it describes itself.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "base/config/config.h"
#include "kernels/formulas/scores/registry.h"

namespace sluice {

class ScoreConfig {
 public:
  std::string type = "softmax";

  // The keys of every function in the list; each applies only with its own. Two functions cannot have a key in common.
  void describe(Fields& fields);

  ScoreKind kind() const;
  // As the kernels read them, in a model of these sizes.
  ScoreConstants constants(const ScoreSizes& sizes) const;
  // What products of queries and keys of so many features are multiplied with.
  double scale(int64_t features) const;
  std::vector<LearnedPerHead> learned() const;
  // Whether a row's weights are shares of one whole.
  bool normalised() const;
  // What in its constants would mean something else with another context; "" if nothing.
  std::string tied_to_context() const;

  // What the config says of a function's constants, whichever is chosen.
  template <class Score>
  const auto& of() const {
    return std::get<size_t(kind_of<Score>)>(constants_);
  }

 private:
  template <class List>
  struct ConstantsOf;
  template <class... Scores>
  struct ConstantsOf<ScoreList<Scores...>> {
    using Type = std::tuple<typename Scores::template Constants<double>...>;
  };

  typename ConstantsOf<ScoreFunctions>::Type constants_;
};

// The names of all score functions, in the order of the list.
std::vector<std::string> score_names();

}  // namespace sluice
