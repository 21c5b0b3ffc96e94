// Times one op of a config's training step by itself, on the tensors of a real step, and refuses to where what it
// computes is not what the CPU's plainest kernels compute.
#pragma once

#include <string>
#include <vector>

#include "experiment/experiment.h"
#include "kernels/backend.h"

namespace sluice {

// The calls of a step whose tensors have the same shapes, strides and types.
struct OpCalls {
  std::string tensors;    // of the op, in its order: "f32 [1024,256]/768, ..."
  int64_t calls = 0;      // of one step
  double seconds = 0;     // median of a call, tensors in cache as far as they fit
  double bytes = 0;       // of its tensors but the workspace, each counted once
  double difference = 0;  // from the plainest kernels, as a share of what is allowed
};

struct OpBenchmark {
  std::string op;
  std::vector<OpCalls> calls;
  double copy_rate = 0;  // bytes read and written per second by the device's copy of 128 MB
};

// `repeats`: timed calls of each kind. UserError where there is no such op, or no step of the config runs it; RunError
// where its results differ from the plainest kernels'.
OpBenchmark benchmark_op(Backend& backend, const Experiment& experiment, const std::string& op, int repeats);

std::string to_text(const OpBenchmark& result);
Json to_json(const OpBenchmark& result);

}  // namespace sluice
