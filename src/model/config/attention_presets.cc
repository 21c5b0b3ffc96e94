// The presets, and what they and the shortcuts stand for.
#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "kernels/formulas/scores/registry.h"
#include "model/config/attention.h"
#include "model/config/attention_parts.h"

namespace sluice {

namespace {

struct NamedPreset {
  const char* name;
  const char* source;
  const char* summary;
  const char* parts;
};

// Those that are more than a score function, and those whose words differ from the score's own.
constexpr NamedPreset kNamed[] = {
    {"softmax", "arXiv 1706.03762", "the baseline", R"({"score": {"type": "softmax"}})"},
    {"input_gated", "arXiv 2510.09017", "a gate per head that reads the layer's input",
     R"({"gate": {"reads": "hidden", "site": "output", "grain": "head"}})"},
    {"vga", "arXiv 2510.09017", "Value-State Gated Attention: a gate per head that reads the value states",
     R"({"gate": {"reads": "value", "site": "output", "grain": "head"}})"},
    {"gated_attention", "arXiv 2306.12929", "a gate per head that reads the head's slice of the input, with a bias",
     R"({"gate": {"reads": "hidden_head", "site": "output", "grain": "head", "bias": true, "opening": 0.5}})"},
    {"gated_sdpa", "arXiv 2505.06708", "a gate per element of the output that reads the layer's input",
     R"({"gate": {"reads": "hidden", "site": "output", "grain": "element"}})"},
    {"hyga", "arXiv 2608.11805",
     "Hybrid Gated Attention: a gate per element that reads the input and the head's result, of a low rank a head, "
     "times one per head that reads all heads' results",
     R"({"gate": {"reads": "hidden_and_output_head", "site": "output", "grain": "element", "rank": 8,)"
     R"( "second": {"reads": "output", "grain": "head"}}})"},
    {"softmax_plus_one", "arXiv 2410.10781", "softmax with 1 added to the denominator",
     R"({"score": {"type": "softmax_plus_one"}})"},
    {"sink_logit", "arXiv 2508.10925", "softmax with a learned logit per head in the denominator",
     R"({"score": {"type": "sink_logit"}})"},
    {"sigmoid", "arXiv 2410.10781", "an independent sigmoid for every score", R"({"score": {"type": "sigmoid"}})"},
    {"relu", "arXiv 2410.13835", "relu of the scores over the row's length", R"({"score": {"type": "relu"}})"},
    {"clipped_softmax", "arXiv 2306.12929", "softmax stretched and clipped to [0, 1]",
     R"({"score": {"type": "clipped_softmax"}})"},
    {"softpick", "arXiv 2504.20966", "rectified softmax that need not sum to one",
     R"({"score": {"type": "softpick"}})"},
    {"affine", "arXiv 2602.23057", "weights scaled by a factor of the row and shifted by a moving average of it",
     R"({"affine": {"type": "linear"}})"},
    {"value_residual", "arXiv 2410.17897", "values mixed with those of the first layer, by learned numbers (ResFormer)",
     R"({"value_residual": {"type": "learned"}})"},
    {"threshold", "arXiv 2601.12145", "squares of cosines of queries and keys above a threshold (TDA's first view)",
     R"({"score": {"type": "threshold"}, "unit_length": true})"},
    {"tda", "arXiv 2601.12145",
     "Threshold Differential Attention: the difference of two heads' thresholded squares of cosines, keys their own, "
     "its factor clamped, and a norm",
     R"({"score": {"type": "threshold"}, "unit_length": true,)"
     R"( "difference": {"lambda": "clamped", "keys": "own"}, "output_norm": "rmsnorm"})"},
    {"elastic_softmax", "arXiv 2601.00919", "softmax and a learned offset over the row's length, rectified",
     R"({"score": {"type": "elastic_softmax"}})"},
    {"key_bias", "arXiv 2410.10781", "softmax with one extra learned key whose value is zero", R"({"key_bias": true})"},
    {"key_value_bias", "arXiv 2410.10781", "softmax with one extra learned key and value",
     R"({"key_value_bias": true})"},
    {"key_only", "arXiv 2510.11602", "weights that are the keys' own, the same for all queries",
     R"({"core": "key_only"})"},
    {"lightning", "arXiv 2405.17381",
     "linear attention with decay, LayerNorm of its results, a gate of a head's rank (Lightning Attention, TNL)",
     R"({"core": "linear", "feature_map": "silu", "output_norm": "layernorm_of_all", "gate": {"reads": "hidden",
         "site": "output", "grain": "element", "rank": -1, "rank_activation": "none"}})"},
    {"transnormer", "arXiv 2307.14995",
     "linear attention with decay, RMSNorm of its results without a gain, a gate without sigmoid (TransNormerLLM)",
     R"({"core": "linear", "feature_map": "silu", "output_norm": "simple_rmsnorm_of_all", "gate": {"reads": "hidden",
         "site": "output", "grain": "element", "activation": "none"}})"},
    {"mlp", "arXiv 2510.11602", "a gated MLP in attention's place, which mixes no tokens", R"({"core": "mlp"})"},
    {"static_qk", "arXiv 2510.11602", "queries and keys of the token embedding",
     R"({"qk_source": {"type": "embedding"}})"},
    {"random_qk", "arXiv 2510.11602", "queries and keys of a second stream, which begins with fixed random rows",
     R"({"qk_source": {"type": "random"}})"},
    {"stochastic", "arXiv 2604.00754",
     "a window of the text and one of a random order of its positions, each behind a gate per head",
     R"({"window": 256, "permuted": "gated"})"},
    {"moh", "arXiv 2410.11842",
     "mixture of heads: each row takes half of them, those that a router picks and a shared quarter",
     R"({"routed_heads": {"type": "linear"}})"},
    {"output_norm", "arXiv 2605.06611", "RMSNorm of every head's result", R"({"output_norm": "rmsnorm"})"},
    {"diff_v2", "Diff Transformer V2 (microsoft/unilm)",
     "Differential Transformer V2: the difference of two heads on the same keys and values, its factor projected",
     R"({"difference": {"lambda": "projected"}})"},
    {"diff_v1", "arXiv 2410.05258",
     "Differential Transformer: the difference of two heads with keys of their own, one factor a layer, and a norm",
     R"({"difference": {"lambda": "scalar", "keys": "own"}, "output_norm": "rmsnorm_by_depth"})"},
    {"grouped_diff", "arXiv 2510.06949",
     "Grouped Differential Attention: diff_v1 with one noise head for all heads that share a key/value head",
     R"({"difference": {"lambda": "scalar", "signal": 0, "keys": "own"}, "output_norm": "rmsnorm_by_depth"})"},
};

}  // namespace

// Every score function is a preset.
const std::vector<AttentionPreset>& attention_presets() {
  static const std::vector<AttentionPreset> presets = [] {
    std::vector<AttentionPreset> list;
    for (const NamedPreset& preset : kNamed) list.push_back({preset.name, preset.source, preset.summary, preset.parts});
    ScoreFunctions::for_each([&](auto score) {
      const std::string name = score.kName;
      const auto is_it = [&](const AttentionPreset& preset) { return preset.name == name; };
      if (std::any_of(list.begin(), list.end(), is_it)) return;
      list.push_back(
          {score.kName, score.kSource, score.kFormula, fmt::format(R"({{"score": {{"type": "{}"}}}})", name)});
    });
    return list;
  }();
  return presets;
}

namespace {

Json preset_parts(const std::string& name, const std::string& path) {
  std::vector<std::string> names = {"custom"};
  for (const AttentionPreset& preset : attention_presets()) {
    if (name == preset.name) return Json::parse(preset.parts);
    names.push_back(preset.name);
  }
  if (name == "custom") return Json::object();
  const std::string near = nearest(name, names);
  throw UserError("{}: no attention preset is called \"{}\"{}; there are {}", path, name,
                  near.empty() ? "" : fmt::format(" (did you mean \"{}\"?)", near), fmt::join(names, ", "));
}

// The part whose group `key` belongs to though it stands beside it; "" if none.
std::string group_of_shortcut(const std::string& key) {
  for (const StagePart& part : attention_stages()) {
    if (!part.options) continue;
    for (const std::string& shortcut : part.options()->shortcuts())
      if (key == shortcut) return part.name;
  }
  return "";
}

// Whether `value` changes the group that is there, or stands in its place as another type of it does.
bool changes(const Json& there, const Json& value) {
  return there.is_object() && value.is_object() &&
         (!value.contains("type") || !there.contains("type") || value["type"] == there["type"]);
}

// Whether `stored` has every key of `given`, and of its objects.
bool has_keys_of(const Json& given, const Json& stored) {
  return std::all_of(given.items().begin(), given.items().end(), [&](const auto& part) {
    if (!stored.contains(part.key())) return false;
    const Json& one = stored[part.key()];
    return !part.value().is_object() || !one.is_object() || has_keys_of(part.value(), one);
  });
}

// Whether what is written of these parts says all that the preset they came from has: parts that are not there are
// left out, and a stored config must not have the preset bring them back.
bool is_still(const Json& parts, const std::string& preset, const std::string& path) {
  Json stored;
  try {
    AttentionConfig config;
    Fields fields;
    config.describe(fields);
    fields.parse(parts, path);
    stored = fields.dump();
  } catch (const UserError&) {
    return true;  // whoever reads it says what is wrong
  }
  return has_keys_of(preset_parts(preset, path), stored);
}

}  // namespace

Json expand_attention(const Json& json, const std::string& path) {
  const bool named = json.contains("type") && json["type"].is_string();
  Json out = preset_parts(named ? json["type"].get<std::string>() : "custom", path);
  for (const auto& [key, value] : json.items()) {
    const std::string group = group_of_shortcut(key);
    if (!group.empty()) {
      Json& there = out[group];
      if (there.is_null()) there = Json::object();
      if (there.is_object()) there[key] = value;  // else reading the group says that it is none
    } else if (out.contains(key) && changes(out[key], value)) {
      out[key].update(value);
    } else {
      out[key] = value;
    }
  }
  if (named && json.size() > 1 && !is_still(out, out["type"].get<std::string>(), path)) out["type"] = "custom";
  if (!named) out["type"] = json.contains("type") ? json["type"] : Json("custom");
  return out;
}

}  // namespace sluice
