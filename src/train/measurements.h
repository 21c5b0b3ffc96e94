// What is measured of a model while it trains: evaluations, probes, analyses, pictures of its attention. Their lines
// and files go to the run's session.
//
// All ranks call these at the same step. An evaluation is everybody's work; the rest is rank 0's, and the others wait.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "measure/analyzer.h"
#include "measure/probe.h"
#include "train/learner.h"
#include "train/run_session.h"
#include "train/training_data.h"

namespace sluice {

class Measurements {
 public:
  // Allocates what a probe needs. All arguments must outlive it.
  Measurements(const Experiment& experiment, const TrainingData& data, Learner& learner, RunSession& session,
               Communicator& ranks);

  void evaluate(int64_t step);
  void probe(int64_t step);
  void analyze(int64_t step);
  void save_attention_map(int64_t step);

  const std::string& outcome() const { return outcome_; }  // "; held-out loss 1.2345", or empty
  size_t bytes() const { return prober_ ? prober_->bytes() : 0; }

 private:
  const Experiment& experiment_;
  const TrainingData& data_;
  Learner& learner_;
  RunSession& session_;
  Communicator& ranks_;
  std::optional<Prober> prober_;       // rank 0's
  std::optional<Analyzer> analyzer_;   // rank 0's
  std::string outcome_;                // the last figures on held-out data
  std::optional<int64_t> eval_bytes_;  // of text in an evaluation, once one has been; 0: not known
};

}  // namespace sluice
