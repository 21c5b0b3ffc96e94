// What a run needs besides its tensors to go on: "trainer" in state.json.
#pragma once

#include <cstdint>
#include <string>

#include "base/config/config.h"
#include "experiment/guard.h"
#include "runs/checkpoint.h"

namespace sluice {

struct TrainerState {
  static constexpr int64_t kAllMeasured = 3;

  int64_t updates = 0;        // of the optimizer
  int64_t next_sequence = 0;  // position in the training data; runs on through skips and roll-backs
  double seconds = 0;         // of training, in all
  std::string data,
      held_out;  // what it was trained and evaluated on (DataSource::identity); empty: not known, or nothing
  GuardState guard;
  int64_t measured = kAllMeasured;  // measurements of the last step that were done when its data failed

  void describe(Fields& fields);

  Json json() const;
  // UserError if `json` is no trainer's state, which begins with `place`.
  static TrainerState read(const Json& json, const std::string& place);
  static TrainerState of(const Checkpoint& checkpoint);
};

}  // namespace sluice
