#include "model/attention/config.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "kernels/formulas/scores/registry.h"

namespace sluice {

void GateConfig::describe(Fields& f) {
  f.add("reads", reads,
        "what the gate reads: none (no gate), hidden (the layer's input, all features), hidden_head (the head's own slice of "
        "it), value (the value states of all heads)")
      .one_of({"none", "hidden", "hidden_head", "value"});
  const std::vector<std::string> gated = {"hidden", "hidden_head", "value"};
  f.add("site", site, "what it scales: every value before the sum (source), or the head's result at its own row (output)")
      .one_of({"source", "output"})
      .when("reads", gated);
  f.add("grain", grain, "one gate per head or one per element").one_of({"head", "element"}).when("reads", gated);
  f.add("bias", bias, "a learned bias").when("reads", gated);
  f.add("opening", opening, "with a bias: the gate's initial value for an input of zero").above(0).below(1).when("reads", gated);
}

void AttentionConfig::describe(Fields& f) {
  GateConfig gate_defaults;
  Fields gate_fields;
  gate_defaults.describe(gate_fields);
  const Json gate_schema = gate_fields.schema();
  std::vector<std::string> names = {"custom"};
  for (const AttentionPreset& preset : attention_presets()) names.push_back(preset.name);
  f.add("type", type, "the preset this starts from; the other keys change it. custom: softmax without a gate").one_of(names);
  f.add_group("score", score, "the score function");
  f.add_group("gate", gate, "the gate");
  f.add("key_bias", key_bias, "one extra learned key per head whose value is zero");
  f.add("key_value_bias", key_value_bias, "one extra learned key and value per head");
  for (const char* name : {"reads", "site", "grain", "bias", "opening"})
    f.add_shortcut(name, gate_schema["properties"][name], fmt::format("short for gate.{}", name));
}

void AttentionConfig::resolve(int64_t heads, int64_t kv_heads) {
  if (key_bias && key_value_bias)
    throw UserError("model.attention.key_bias and key_value_bias are both on: choose one (the second learns the value too)");
  if (key_bias && !score.normalised())
    throw UserError("model.attention.key_bias does nothing with model.attention.score.type = {}: no weight depends on another "
                    "key there, and its value is zero (key_value_bias learns a value too)", score.type);
  if (gate.present() && gate.reads == "hidden_head" && gate.site == "source" && kv_heads != heads)
    throw UserError("model.attention.gate.reads = hidden_head with site = source needs model.kv_heads = model.heads ({}), not {}",
                    heads, kv_heads);
}

namespace {

// Those that are more than a score function, and those whose words differ from the score's own.
std::vector<AttentionPreset> named_presets() {
  return {
      {"softmax", "arXiv 1706.03762", "the baseline", R"({"score": {"type": "softmax"}})"},
      {"input_gated", "arXiv 2510.09017", "a gate per head that reads the layer's input",
       R"({"gate": {"reads": "hidden", "site": "output", "grain": "head"}})"},
      {"vga", "arXiv 2510.09017", "Value-State Gated Attention: a gate per head that reads the value states",
       R"({"gate": {"reads": "value", "site": "output", "grain": "head"}})"},
      {"gated_attention", "arXiv 2306.12929", "a gate per head that reads the head's slice of the input, with a bias",
       R"({"gate": {"reads": "hidden_head", "site": "output", "grain": "head", "bias": true, "opening": 0.5}})"},
      {"gated_sdpa", "arXiv 2505.06708", "a gate per element of the output that reads the layer's input",
       R"({"gate": {"reads": "hidden", "site": "output", "grain": "element"}})"},
      {"softmax_plus_one", "arXiv 2410.10781", "softmax with 1 added to the denominator",
       R"({"score": {"type": "softmax_plus_one"}})"},
      {"sink_logit", "arXiv 2508.10925", "softmax with a learned logit per head in the denominator",
       R"({"score": {"type": "sink_logit"}})"},
      {"sigmoid", "arXiv 2410.10781", "an independent sigmoid for every score", R"({"score": {"type": "sigmoid"}})"},
      {"relu", "arXiv 2410.13835", "relu of the scores over the row's length", R"({"score": {"type": "relu"}})"},
      {"clipped_softmax", "arXiv 2306.12929", "softmax stretched and clipped to [0, 1]",
       R"({"score": {"type": "clipped_softmax"}})"},
      {"softpick", "arXiv 2504.20966", "rectified softmax that need not sum to one", R"({"score": {"type": "softpick"}})"},
      {"key_bias", "arXiv 2410.10781", "softmax with one extra learned key whose value is zero", R"({"key_bias": true})"},
      {"key_value_bias", "arXiv 2410.10781", "softmax with one extra learned key and value", R"({"key_value_bias": true})"},
  };
}

}  // namespace

// Every score function is a preset.
const std::vector<AttentionPreset>& attention_presets() {
  static const std::vector<AttentionPreset> presets = [] {
    std::vector<AttentionPreset> list = named_presets();
    ScoreFunctions::for_each([&](auto score) {
      const std::string name = score.kName;
      if (std::any_of(list.begin(), list.end(), [&](const AttentionPreset& preset) { return preset.name == name; })) return;
      list.push_back({score.kName, score.kSource, score.kFormula, fmt::format(R"({{"score": {{"type": "{}"}}}})", name)});
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

// A changed constant of the preset's own score function; another function replaces it whole.
bool changes_score(const Json& preset, const std::string& key, const Json& value) {
  if (key != "score" || !value.is_object() || !preset.contains("score")) return false;
  return !value.contains("type") || value["type"] == preset["score"]["type"];
}

bool is_gate_shortcut(const std::string& key) {
  return key == "reads" || key == "site" || key == "grain" || key == "bias" || key == "opening";
}

}  // namespace

Json expand_attention(const Json& json, const std::string& path) {
  const bool named = json.contains("type") && json["type"].is_string();
  const std::string name = named ? json["type"].get<std::string>() : "custom";
  Json out = preset_parts(name, path);
  Json gate_changes = Json::object();
  for (const auto& [key, value] : json.items()) {
    if (is_gate_shortcut(key)) gate_changes[key] = value;
    else if (key == "gate" && value.is_object()) gate_changes.update(value);
    else if (changes_score(out, key, value)) out["score"].update(value);
    else out[key] = value;
  }
  if (!gate_changes.empty()) {
    if (!out.contains("gate")) out["gate"] = Json::object();
    out["gate"].update(gate_changes);
  }
  if (!named) out["type"] = json.contains("type") ? json["type"] : Json("custom");
  return out;
}

}  // namespace sluice
