#include "model/config/attention.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "model/config/attention_parts.h"
#include "model/config/config.h"

namespace sluice {
namespace {

std::vector<std::string> core_names() {
  std::vector<std::string> names;
  for (const CorePart& part : attention_cores()) names.push_back(part.name);
  return names;
}

std::string core_summaries() {
  std::string text;
  for (const CorePart& part : attention_cores())
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", part.name, part.summary);
  return text;
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names = {"custom"};
  for (const AttentionPreset& preset : attention_presets()) names.push_back(preset.name);
  return names;
}

// Calls change(field) for each field that `describe` adds.
template <class Describe, class Change>
void for_added(Fields& f, Describe describe, Change change) {
  const size_t before = f.list().size();
  describe();
  for (size_t i = before; i < f.list().size(); ++i) change(*f.list()[i]);
}

void describe_stage(const StagePart& part, StageOptions& options, Fields& f) {
  Fields defaults;
  const auto fresh = part.options();
  fresh->describe(defaults);
  for_added(
      f, [&] { options.describe(f); },
      [&](Field& field) {
        if (!part.always_written) field.not_written_as(defaults.find(field.name)->default_value);
      });
}

}  // namespace

// ---- one layer's ----------------------------------------------------------------------------------------------------

AttentionConfig::AttentionConfig() {
  for (const CorePart& part : attention_cores()) cores_.emplace_back(part.options());
  for (const StagePart& part : attention_stages())
    stages_.push_back(part.options ? Held<StageOptions>(part.options()) : Held<StageOptions>());
}

// A part that a model does not have leaves no trace in its config: configs, checkpoints and exported folders from
// before the part was there stay as they are.
void AttentionConfig::describe(Fields& f) {
  f.add("type", type, "the preset this starts from; the other keys change it. custom: softmax without a gate")
      .one_of(preset_names());
  f.add("core", core, "how tokens mix: " + core_summaries())
      .one_of(core_names())
      .not_written_as(attention_cores().front().name);
  for (size_t i = 0; i < cores_.size(); ++i)
    for_added(
        f, [&] { cores_[i]->describe(f); },
        [&](Field& field) {
          if (field.when_key.empty()) field.when("core", {attention_cores()[i].name});
        });
  for (size_t i = 0; i < stages_.size(); ++i)
    if (stages_[i]) describe_stage(attention_stages()[i], *stages_[i].get(), f);
}

const CorePart& AttentionConfig::core_part() const {
  const auto& parts = attention_cores();
  const auto found = std::find_if(parts.begin(), parts.end(), [&](const CorePart& part) { return core == part.name; });
  check(found != parts.end(), "an unlisted core passed the config check");
  return *found;
}

const CoreOptions& AttentionConfig::core_options() const {
  return *cores_[size_t(&core_part() - attention_cores().data())].get();
}

std::vector<const StageOptions*> AttentionConfig::stages() const {
  std::vector<const StageOptions*> out;
  for (const auto& stage : stages_)
    if (stage && stage->present()) out.push_back(stage.get());
  return out;
}

std::string AttentionConfig::text() const {
  std::string text = core_options().text();
  for (const StageOptions* stage : stages()) text += ", " + stage->text();
  return text;
}

bool AttentionConfig::is_preset() const {
  const auto dump = [](AttentionConfig config) {
    Fields fields;
    config.describe(fields);
    return fields.dump();
  };
  AttentionConfig preset;
  Fields fields;
  preset.describe(fields);
  fields.parse(expand_attention({{"type", type}}, "model.attention"), "model.attention");
  return type != "custom" && dump(*this) == dump(preset);
}

std::vector<std::string> AttentionConfig::idle(const ModelConfig& model, const std::string& path) const {
  std::vector<std::string> out = {core_options().idle(model, path)};
  for (const StageOptions* stage : stages()) out.push_back(stage->idle(model, path));
  std::erase(out, "");
  return out;
}

std::string AttentionConfig::tied_to_context() const {
  std::string tied = core_options().tied_to_context();
  for (const StageOptions* stage : stages())
    if (tied.empty()) tied = stage->tied_to_context();
  return tied;
}

std::string AttentionConfig::part_without_python() const {
  if (!core_part().in_python) return core_part().name;
  for (size_t i = 0; i < stages_.size(); ++i)
    if (stages_[i] && stages_[i]->present() && !attention_stages()[i].in_python) return attention_stages()[i].name;
  return "";
}

void AttentionConfig::resolve(const ModelConfig& model, const std::string& path) const {
  const auto check_sides = [&](const PartOptions& part) {
    if (!model.causal && part.causal_only())
      throw UserError(
          "{} = {}: {} is made of earlier positions alone, but model.causal = false lets rows see both sides; take "
          "another attention, or leave model.causal at true",
          path, type, part.text());
  };
  core_options().resolve(model, path);
  check_sides(core_options());
  if (!core_part().has_heads()) refuse_stages(path);
  for (const StageOptions* stage : stages()) {
    check_sides(*stage);
    stage->resolve(model, path);
    stage->check_core(core_options(), path);
  }
}

void AttentionConfig::refuse_stages(const std::string& path) const {
  for (size_t i = 0; i < stages_.size(); ++i)
    if (stages_[i] && stages_[i]->present())
      throw UserError("{}.{} works on heads, and {}.core = {} has none", path, attention_stages()[i].name, path, core);
}

// ---- a pattern over the layers --------------------------------------------------------------------------------------

void AttentionRun::describe(Fields& f) {
  f.add("repeat", repeat, "layers in a row that have it").range(1, 1000);
  AttentionConfig::describe(f);
}

const AttentionConfig& AttentionPattern::of(int64_t layer) const {
  if (runs.empty()) return all;
  int64_t length = 0;
  for (const AttentionRun& run : runs) length += run.repeat;
  int64_t left = layer % length;
  for (const AttentionRun& run : runs) {
    if (left < run.repeat) return run;
    left -= run.repeat;
  }
  return runs.back();
}

std::vector<const AttentionConfig*> AttentionPattern::kinds() const {
  if (runs.empty()) return {&all};
  std::vector<const AttentionConfig*> out;
  for (const AttentionRun& run : runs) out.push_back(&run);
  return out;
}

std::string AttentionPattern::name() const {
  if (runs.empty()) return all.type;
  std::vector<std::string> names;
  for (const AttentionRun& run : runs)
    names.push_back(run.repeat == 1 ? run.type : fmt::format("{}*{}", run.type, run.repeat));
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string AttentionPattern::changes() const {
  if (runs.empty()) return all.is_preset() ? "" : all.text();
  std::vector<std::string> texts;
  for (const AttentionRun& run : runs) {
    const std::string text = run.type + ": " + run.text();
    if (!run.is_preset() && std::find(texts.begin(), texts.end(), text) == texts.end()) texts.push_back(text);
  }
  return fmt::format("{}", fmt::join(texts, "; "));
}

std::vector<std::string> AttentionPattern::idle(const ModelConfig& model) const {
  if (runs.empty()) return all.idle(model, "model.attention");
  std::vector<std::string> out;
  for (size_t i = 0; i < runs.size(); ++i)
    for (std::string& text : runs[i].idle(model, fmt::format("model.attention[{}]", i))) out.push_back(std::move(text));
  return out;
}

bool AttentionPattern::is_plain() const {
  const auto each = kinds();
  return std::all_of(each.begin(), each.end(), [](const AttentionConfig* one) { return one->is_plain(); });
}

void AttentionPattern::resolve(const ModelConfig& model) const {
  if (runs.empty()) return all.resolve(model, "model.attention");
  int64_t first = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    const std::string path = fmt::format("model.attention[{}]", i);
    if (first >= model.layers)
      throw UserError("{} would begin at layer {}, but model.layers = {} are taken by those before it", path, first,
                      model.layers);
    runs[i].resolve(model, path);
    first += runs[i].repeat;
  }
}

}  // namespace sluice
