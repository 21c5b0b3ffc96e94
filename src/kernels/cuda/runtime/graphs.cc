// The first call of a key runs its ops, the second records them, later ones launch the graph (graphs.h).
#include "kernels/cuda/runtime/graphs.h"

namespace sluice::cuda {

Graphs::~Graphs() {
  for (const auto& [key, graph] : graphs_)
    if (graph) cudaGraphExecDestroy(graph);
}

void Graphs::run(const std::string& key, const std::function<void()>& ops) {
  if (recording_) return ops();  // part of a record
  const auto [found, first] = graphs_.try_emplace(key, nullptr);
  if (first) {
    try {
      return ops();
    } catch (...) {
      graphs_.erase(key);
      throw;
    }
  }
  if (!found->second) found->second = record(ops);
  check(cudaGraphLaunch(found->second, stream_), "cudaGraphLaunch");
}

cudaGraphExec_t Graphs::record(const std::function<void()>& ops) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  recording_ = true;
  try {
    ops();
  } catch (...) {
    recording_ = false;
    cudaStreamEndCapture(stream_, &graph);
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  recording_ = false;
  check(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
  cudaGraphExec_t out = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&out, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "cudaGraphInstantiate");
  return out;
}

}  // namespace sluice::cuda
