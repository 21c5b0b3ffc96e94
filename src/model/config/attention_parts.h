// The parts that attention is put together from: the two lists that configs, schema, layers, tests and docs walk.
//
// A new part is a header with its source and one line in cores.cc or stages.cc (CONTRIBUTING.md, "A core or a stage").

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/part_list.h"
#include "model/config/attention_options.h"

namespace sluice {

class Core;
class Mixer;
class Stage;
struct Declarations;

// Where a part is made: in which layer, and between which sizes.
struct LayerPlace {
  const Declarations& d;
  std::string name;  // of the attention layer: "blocks.0.attention"
  int layer;
  HeadSizes projected;  // what the projections make, which the core is given
  HeadSizes sizes;      // what a stage hands on
};

struct CorePart {
  const char* name;  // in model.attention.core
  const char* summary;
  std::unique_ptr<CoreOptions> (*options)();
  std::unique_ptr<Core> (*make)(const LayerPlace& place, const CoreOptions& options);
  bool in_python;       // interchange/modeling_sluice.py computes it too; a model with others cannot be exported
  const char* example;  // JSON: what a model says to have it; tests of all parts begin with it
  // Of a core without heads: the whole layer, which stands in attention's place. `make` is null then.
  std::unique_ptr<Mixer> (*make_mixer)(const LayerPlace& place, const CoreOptions& options) = nullptr;

  bool has_heads() const { return make_mixer == nullptr; }
};

struct StagePart {
  const char* name;  // of its key in model.attention, where it has one
  const char* summary;
  std::unique_ptr<StageOptions> (*options)();  // null: keys of the model's say what it does
  // Null where the layer has no such stage.
  std::unique_ptr<Stage> (*make)(const LayerPlace& place, const StageOptions* options);
  bool in_python;
  const char* example;
  bool on_queries_and_keys = false;  // its seat; the others' stages say theirs
  bool always_written = false;       // its keys stand in a config without it too
};

// In the order in which a layer declares their parameters and in which stages of one seat act.
const std::vector<CorePart>& attention_cores();
const std::vector<StagePart>& attention_stages();

template <>
std::vector<CorePart>& part_list();
template <>
std::vector<StagePart>& part_list();
using ListedCore = Listed<CorePart>;
using ListedStage = Listed<StagePart>;

}  // namespace sluice
