// One list of fields, written and read (trainer_state.h).
#include "runs/trainer_state.h"

#include <algorithm>
#include <cmath>

#include "base/config/json_reader.h"

namespace sluice {
namespace {

// Imports and older checkpoints do not say what they were trained on, and a step is mostly measured whole.
bool may_be_missing(const std::string& key) { return key == "data" || key == "held_out" || key == "measured"; }

// Of `json` what the fields know: a later version may have more. UserError where one is missing.
Json known_keys(const Json& json, const Fields& fields, const std::string& place) {
  const JsonReader reader(json, place);
  Json known = Json::object();
  for (const auto& field : fields.list()) {
    if (may_be_missing(field->name) && !reader.has(field->name)) continue;
    const Json& value = reader.value(field->name);
    known[field->name] = field->group ? known_keys(value, *field->group, place + "." + field->name) : value;
  }
  return known;
}

}  // namespace

void TrainerState::describe(Fields& fields) {
  fields.add("updates", updates, "updates of the optimizer").range(0, INFINITY);
  fields.add("next_sequence", next_sequence, "position in the training data").range(0, INFINITY);
  fields.add("seconds", seconds, "of training, in all");
  fields.add("data", data, "what it was trained on");
  fields.add("held_out", held_out, "what it was evaluated on");
  fields.add_group("guard", guard, "what the guard has counted");
  fields.add("measured", measured, "measurements of the last step that were done when its data failed")
      .range(0, INFINITY)
      .not_written_as(kAllMeasured);
}

Json TrainerState::json() const {
  TrainerState written = *this;
  Fields fields;
  written.describe(fields);
  Json json = fields.dump();
  if (data.empty()) json.erase("data"), json.erase("held_out");
  return json;
}

TrainerState TrainerState::read(const Json& json, const std::string& place) {
  TrainerState state;
  Fields fields;
  state.describe(fields);
  fields.parse(known_keys(json, fields, place), place);
  state.measured = std::min(state.measured, kAllMeasured);
  return state;
}

TrainerState TrainerState::of(const Checkpoint& checkpoint) {
  return read(checkpoint.state.trainer, checkpoint.path.string() + "/state.json, trainer");
}

}  // namespace sluice
