#include "model/attention/cores/tiles_options.h"

#include "base/error.h"
#include "kernels/formulas/scores/registry.h"

namespace sluice {

std::vector<std::string> score_names() {
  std::vector<std::string> names;
  ScoreFunctions::for_each([&](auto score) { names.emplace_back(score.kName); });
  return names;
}

void ScoreConfig::describe(Fields& f) {
  f.add("type", type, "the score function: how a row of scores becomes attention weights").one_of(score_names());
  f.add("bias", bias, "added to every score").range(-1e4, 1e4).when("type", {"sigmoid"});
  f.add("minus_log_length", minus_log_length, "also subtract log(i + 1) in row i").when("type", {"sigmoid"});
  f.add("gamma", gamma, "lower end of the stretched range; below 0 small weights become exactly 0")
      .range(-10, 0)
      .when("type", {"clipped_softmax"});
  f.add("alpha", alpha, "above 0: gamma is -alpha / model.context instead")
      .range(0, 1e4)
      .when("type", {"clipped_softmax"});
  f.add("zeta", zeta, "upper end of the stretched range").range(1, 10).when("type", {"clipped_softmax"});
  f.add("epsilon", epsilon, "added to the denominator").range(1e-30, 1).when("type", {"softpick"});
}

ScoreKind ScoreConfig::kind() const {
  ScoreKind found = ScoreKind::kCount;
  ScoreFunctions::for_each([&](auto score) {
    if (type == score.kName) found = score.kKind;
  });
  check(found != ScoreKind::kCount, "an unregistered score function passed the config check");
  return found;
}

ScoreConstants ScoreConfig::constants(int64_t context) const {
  return {.bias = bias,
          .bias_minus_log_length = minus_log_length,
          .gamma = alpha > 0 ? -alpha / double(context) : gamma,
          .zeta = zeta,
          .epsilon = epsilon};
}

void TilesOptions::describe(Fields& f) {
  f.add_group("score", score, "the score function");
  f.add("key_bias", key_bias, "one extra learned key per head whose value is zero");
  f.add("key_value_bias", key_value_bias, "one extra learned key and value per head");
}

void TilesOptions::resolve(const ModelConfig& /*model*/, const std::string& path) const {
  if (key_bias && key_value_bias)
    throw UserError("{}.key_bias and key_value_bias are both on: choose one (the second learns the value too)", path);
  if (key_bias && (score.type == "sigmoid" || score.type == "relu"))
    throw UserError(
        "{}.key_bias does nothing with {}.score.type = {}: no weight depends on another key there, and its value "
        "is zero (key_value_bias learns a value too)",
        path, path, score.type);
}

std::string TilesOptions::text() const {
  std::string text = "score " + score.type;
  if (key_bias) text += ", a learned key more";
  if (key_value_bias) text += ", a learned key and value more";
  return text;
}

std::optional<Unmet> TilesOptions::unmet_by_fused_softmax() const {
  if (score.type != "softmax") return Unmet{"the score function softmax", "model.attention's is " + score.type};
  if (has_bias_key())
    return Unmet{"attention without a bias slot",
                 "model.attention has " + std::string(key_bias ? "key_bias" : "key_value_bias")};
  return std::nullopt;
}

std::string TilesOptions::tied_to_context() const {
  return score.type == "clipped_softmax" && score.alpha > 0 ? "the clipped softmax has gamma = -alpha / context" : "";
}

}  // namespace sluice
