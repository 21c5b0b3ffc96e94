// model.attention: the parts of an attention layer as data, the presets that name published combinations of them, and a
// pattern where layers differ.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/config/config.h"
#include "model/config/attention_options.h"

namespace sluice {

struct CorePart;

// One layer's. Its keys are those of the chosen core and of every stage in the lists of attention_parts.h.
class AttentionConfig {
 public:
  AttentionConfig();

  std::string type = "softmax";  // the preset's name
  std::string core = "tiles";

  void describe(Fields& fields);
  // UserError; `path` is where it stands: "model.attention", "model.attention[1]".
  void resolve(const ModelConfig& model, const std::string& path) const;

  const CorePart& core_part() const;
  const CoreOptions& core_options() const;
  const StageOptions* stage_options(size_t index) const { return stages_[index].get(); }  // null: the part has none
  // The first stage's or the core's options of this type.
  template <class Options>
  const Options& options() const;
  template <class Options>
  Options& options() {
    return const_cast<Options&>(std::as_const(*this).options<Options>());
  }

  std::vector<const StageOptions*> stages() const;  // those present
  bool is_plain() const { return core_options().is_plain() && stages().empty(); }
  std::string text() const;  // of the parts, for people
  bool is_preset() const;    // it is what its type says, and nothing is changed
  // A sentence for every part that does nothing in this model; `path` as for resolve().
  std::vector<std::string> idle(const ModelConfig& model, const std::string& path) const;
  std::string tied_to_context() const;  // of the first part that is: see PartOptions
  // The part that the exported Python does not compute; "" where it computes all.
  std::string part_without_python() const;

 private:
  void refuse_stages(const std::string& path) const;

  std::vector<Held<CoreOptions>> cores_;    // as in attention_cores()
  std::vector<Held<StageOptions>> stages_;  // as in attention_stages()
};

// An element of a pattern: so many layers one after the other.
class AttentionRun : public AttentionConfig {
 public:
  int64_t repeat = 1;

  void describe(Fields& fields);
};

// Each layer's attention: `all`, or where there are runs these one after the other, from the first again where they end
// before the last layer.
struct AttentionPattern {
  AttentionConfig all;
  std::vector<AttentionRun> runs;

  const AttentionConfig& of(int64_t layer) const;
  std::vector<const AttentionConfig*> kinds() const;  // all, or the runs
  std::string name() const;                           // "vga", or "vga, softmax*3"
  std::string changes() const;                        // the parts of those that are no presets; "" if all are
  std::vector<std::string> idle(const ModelConfig& model) const;
  bool is_plain() const;
  void resolve(const ModelConfig& model) const;
};

struct AttentionPreset {
  const char* name;
  const char* source;
  const char* summary;
  std::string parts;  // JSON
};

// Every preset: the single list that configs, schema, tests and docs iterate. "custom" stands for parts spelled out.
const std::vector<AttentionPreset>& attention_presets();

// Rewrites what a user may write for one layer's attention into its parts. UserError on an unknown preset.
Json expand_attention(const Json& json, const std::string& path);

template <class Options>
const Options& AttentionConfig::options() const {
  for (const auto& stage : stages_)
    if (const auto* found = dynamic_cast<const Options*>(stage.get())) return *found;
  return dynamic_cast<const Options&>(core_options());
}

}  // namespace sluice
