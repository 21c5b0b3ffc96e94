// What a run says of itself: info.json, the plan of its memory, and a word on a vocabulary that is too large.
#pragma once

#include <string>

#include "train/learner.h"
#include "train/run_session.h"
#include "train/training_data.h"

namespace sluice {

struct RunInfo {
  const Backend& backend;
  const Experiment& experiment;
  const TrainingData& data;
  const Learner& learner;
  const Communicator& ranks;
  size_t probe_bytes = 0;

  size_t planned_bytes() const { return learner.bytes() + probe_bytes; }
  // What was allocated, by purpose: a table for a person.
  std::string memory_table() const;
  // status: "running", "done", "stopped" or "failed"
  Json json(const RunSession& session, int64_t steps_done, const char* status) const;
};

void note_unused_vocabulary(const Experiment& experiment, const TrainingData& data);
void note_idle_parts(const Experiment& experiment);  // of attention

}  // namespace sluice
