// Moves parameters and optimizer state between the ranks' devices and rank 0's host memory, where checkpoints are
// written and read, by name. Where rank 0 has a tensor whole and in host memory, it is not copied.
#pragma once

#include <cstddef>
#include <vector>

#include "runs/tensors/safetensors.h"
#include "train/learner.h"

namespace sluice {

// On rank 0 every tensor of a checkpoint; elsewhere empty.
struct HostState {
  std::vector<NamedTensor> model, optimizer;
  std::vector<std::vector<std::byte>> memory;  // behind those that are copies
};

class StateTransfer {
 public:
  StateTransfer(Backend& backend, Learner& learner, Communicator& ranks)
      : backend_(backend), learner_(learner), ranks_(ranks) {}

  HostState room() const;  // to read a checkpoint into
  // Both are called by all ranks.
  HostState collect() const;
  void distribute(const HostState& state) const;

 private:
  bool on_host() const { return backend_.traits().host_memory; }
  bool slots_in_place() const { return on_host() && !learner_.is_sharded(); }
  const Params& params() const { return learner_.model().params(); }
  const MovingAverages& averages() const { return learner_.model().averages(); }
  std::vector<Tensor> model_state() const;
  Tensor bucket_of(const Tensor& flat, size_t bucket) const;
  Tensor piece_of(const Tensor& flat, size_t bucket) const;
  void gather_slot(const Tensor& slot, std::byte* to) const;
  void scatter_slot(const Tensor& slot, const std::byte* from) const;
  void broadcast(const Tensor& flat) const;

  Backend& backend_;
  Learner& learner_;
  Communicator& ranks_;
};

}  // namespace sluice
