// Ops that run again and again on the same tensors, recorded as CUDA graphs: one launch instead of hundreds.
//
// The first run of a key executes its ops as they come, so that every kernel is loaded and every product prepared; the
// second records them and launches the record; later ones launch it.
#pragma once

#include <functional>
#include <string>
#include <unordered_map>

#include "kernels/cuda/runtime/runtime.h"

namespace sluice::cuda {

class Graphs {
 public:
  explicit Graphs(const Stream& stream) : stream_(stream) {}
  ~Graphs();
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;

  void run(const std::string& key, const std::function<void()>& ops);
  bool recording() const { return recording_; }

 private:
  cudaGraphExec_t record(const std::function<void()>& ops);

  const Stream& stream_;
  std::unordered_map<std::string, cudaGraphExec_t> graphs_;  // null: has run once
  bool recording_ = false;
};

}  // namespace sluice::cuda
