// What a run reads.
#pragma once

#include <memory>
#include <string>

#include "data/sources/source.h"
#include "experiment/experiment.h"

namespace sluice {

struct TrainingData {
  std::unique_ptr<DataSource> train, held_out;  // held_out is null where nothing asks for it
  std::unique_ptr<DataSource> short_held_out;   // in the sequences of an analysis, or null

  // To be called before the run's folder is made: wrong data then leaves nothing behind. UserError where data and model
  // do not fit together.
  static TrainingData open(const Experiment& experiment);

  std::string held_out_identity() const { return held_out ? held_out->identity() : ""; }
};

// Writes out the fixed text that model.attention.qk_source takes from the training data where the config names none:
// the first tokens of the first shard, or the first sequence that is made with the seed 0. UserError as open() has.
void take_fixed_text(Experiment& experiment);

}  // namespace sluice
