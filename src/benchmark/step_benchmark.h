// Times whole training steps of a config: the step, where its time goes by op, and what the step's matrix products take
// by themselves, which is the floor it is measured against.
#pragma once

#include <string>
#include <vector>

#include "experiment/experiment.h"
#include "kernels/timed_backend.h"

namespace sluice {

struct StepBenchmark {
  std::vector<double> step_seconds;  // untimed ops; sorted
  int64_t tokens = 0;                // of one step
  int64_t parameters = 0;
  std::map<std::string, OpTime> ops;      // of one step
  std::map<MatmulShape, OpTime> matmuls;  // of one step
  std::map<MatmulShape, double> alone;    // seconds of one product, by itself on the same shapes: the median
  double attention_operations = 0;        // scores and values, forward and backward, of the half that is not masked
  double peak = 0;                        // operations per second of one large product in the step's precision
  double registers = 0;                   // the same of arithmetic on registers, of a CPU; 0 of a GPU
  size_t planned_bytes = 0, peak_resident_bytes = 0;

  double median() const { return step_seconds[step_seconds.size() / 2]; }
  double matmul_floor() const;  // seconds of one step's products, by themselves
  double matmul_operations() const;
  double operations() const { return matmul_operations() + attention_operations; }
};

// Runs `warmup` and then `steps` steps, a few more with every op timed, and each matmul shape alone.
StepBenchmark benchmark_step(Backend& backend, const Experiment& experiment, int64_t warmup, int64_t steps);

std::string to_text(const StepBenchmark& result, const Experiment& experiment);
Json to_json(const StepBenchmark& result);

}  // namespace sluice
