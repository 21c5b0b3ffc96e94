// A model, its optimizer and one step of learning: the gradients of a batch, micro-batch by micro-batch, and the
// update. It knows no log, no checkpoint and no guard; the trainer and the benchmark are built on it.
//
// With several ranks, each takes an equal part of the batch's sequences, in their order, and every function here is to
// be called by all of them. What is returned is the same on every rank.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/batches.h"
#include "experiment/experiment.h"
#include "model/transformer.h"
#include "ranks/communicator.h"
#include "ranks/gradient_exchange.h"
#include "train/optimizer.h"

namespace sluice {

struct Gradients {
  double loss = 0;                       // mean over the batch, nats
  double norm = 0;                       // of the gradient, before clipping
  std::vector<double> part_losses = {};  // means over the batch, in the order of Transformer::losses()
};

// UserError unless the batch can be shared evenly.
void check_ranks(const TrainConfig& config, int ranks);

// UserError where this machine's memory is too small for what every rank on it will allocate. Allocates nothing.
void check_memory(const Experiment& experiment, const Communicator& ranks);

class Learner {
 public:
  // Allocates parameters, gradients, optimizer state and a micro-batch's buffers. All arguments must outlive it.
  Learner(Backend& backend, const Experiment& experiment, Communicator& ranks = one_rank());

  // Gradients of the mean loss over train.batch sequences, from `first_sequence` of `data` on.
  Gradients differentiate(const DataSource& data, int64_t first_sequence);
  // One update by those gradients, clipped to train.grad_clip; and of the model's moving averages.
  void update(const Gradients& gradients, double lr);
  // Mean loss over the first `sequences` of `data`, nats.
  double evaluate(const DataSource& data, int64_t sequences);
  // Whether the parameters and their loss on a sequence of the last micro-batch are finite.
  bool is_sound();

  Transformer& model() { return model_; }
  const Transformer& model() const { return model_; }
  Optimizer& optimizer() { return *optimizer_; }
  const Optimizer& optimizer() const { return *optimizer_; }
  const Partition& partition() const { return partition_; }  // what this rank's optimizer state is of
  bool is_sharded() const { return partition_.kept != model_.params().padded_count(); }
  int64_t tokens() const { return experiment_.train.batch * experiment_.model.context; }  // of a step
  size_t gradient_bytes() const { return exchange_.bytes(); }                             // kept beside the parameters'
  size_t bytes() const;

 private:
  std::vector<double> summed_part_losses();
  void gather_parameters();

  Backend& backend_;
  const Experiment& experiment_;
  Communicator& ranks_;
  const int64_t share_;  // sequences of a batch that this rank takes
  Transformer model_;
  GradientExchange exchange_;
  const Partition partition_;
  std::unique_ptr<Optimizer> optimizer_;
  BatchReader micro_batches_;
};

}  // namespace sluice
