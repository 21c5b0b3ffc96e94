#include "model/attention/cores/tiles_options.h"

#include "base/error.h"
#include "model/config/config.h"

namespace sluice {

void TilesOptions::describe(Fields& f) {
  f.add_group("score", score, "the score function");
  f.add("key_bias", key_bias, "one extra learned key per head whose value is zero");
  f.add("key_value_bias", key_value_bias, "one extra learned key and value per head");
  f.add("window", window, "a query sees so many keys at most, its own and the last before it; 0: all before it")
      .range(0, 1 << 20)
      .not_written_as(0);
  f.add("permuted", permuted,
        "the order of which the window is: none (the text's), alone (a random order of all positions, the layer's own: "
        "a "
        "query sees the keys before it within half a window on either side), gated (both, each behind a gate for each "
        "head that reads the layer's input)")
      .not_written_as("none");
  f.add("permutation_seed", permutation_seed, "of the random orders; each layer has its own")
      .range(0, int64_t{1} << 53)
      .when("permuted", {"alone", "gated"})
      .not_written_as(0);
}

void TilesOptions::resolve(const ModelConfig& model, const std::string& path) const {
  if (window == 1)
    throw UserError("{}.window = 1 leaves a query no key but its own, and nothing to attend to (0: no window)", path);
  if (permuted != PermutedWindows::kNone && window < 3)
    throw UserError("{}.permuted = {} needs a window of 3 keys or more, and {}.window is {}", path,
                    choice_name(permuted), path, window);
  if (permuted != PermutedWindows::kNone && model.registers > 0)
    throw UserError("{}.permuted = {} orders the positions of the text, and model.registers = {} have none", path,
                    choice_name(permuted), model.registers);
  if (key_bias && key_value_bias)
    throw UserError("{}.key_bias and key_value_bias are both on: choose one (the second learns the value too)", path);
  if (key_bias && !score.normalised())
    throw UserError(
        "{}.key_bias does nothing with {}.score.type = {}: no weight depends on another key there, and its value "
        "is zero (key_value_bias learns a value too)",
        path, path, score.type);
}

std::string TilesOptions::text() const {
  std::string text = "score " + score.type;
  if (key_bias) text += ", a learned key more";
  if (key_value_bias) text += ", a learned key and value more";
  if (window > 0) text += fmt::format(", a window of {} keys", window);
  if (permuted == PermutedWindows::kAlone) text += " in a permuted order";
  if (permuted == PermutedWindows::kGated) text += " and one in a permuted order, both gated";
  return text;
}

std::vector<int64_t> TilesOptions::reaches() const {
  if (permuted == PermutedWindows::kNone) return {window};
  if (permuted == PermutedWindows::kAlone) return {slot_reach()};
  return {window, slot_reach()};
}

std::optional<Unmet> TilesOptions::unmet_by_fused_softmax() const {
  if (score.type != "softmax") return Unmet{"the score function softmax", "model.attention's is " + score.type};
  if (has_bias_key())
    return Unmet{"attention without a bias slot",
                 "model.attention has " + std::string(key_bias ? "key_bias" : "key_value_bias")};
  if (window > 0) return Unmet{"attention to all keys", fmt::format("model.attention.window is {}", window)};
  return std::nullopt;
}

std::string TilesOptions::tied_to_context() const { return score.tied_to_context(); }

}  // namespace sluice
