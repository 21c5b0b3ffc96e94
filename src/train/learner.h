// A model, its optimizer and one step of learning: the gradients of a batch, micro-batch by micro-batch, and the update. It
// knows no log, no checkpoint and no guard; the trainer and the benchmark are built on it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/source.h"
#include "model/transformer.h"
#include "train/experiment.h"
#include "train/optimizer.h"

namespace sluice {

struct Gradients {
  double loss = 0;  // mean over the batch, nats
  double norm = 0;  // of the gradient, before clipping
};

class Learner {
 public:
  // Allocates parameters, gradients, optimizer state and a micro-batch's buffers. Both arguments must outlive it.
  Learner(Backend& backend, const Experiment& experiment);

  // Gradients of the mean loss over train.batch sequences, from `first_sequence` of `data` on.
  Gradients differentiate(const DataSource& data, int64_t first_sequence);
  // One update by those gradients, clipped to train.grad_clip.
  void update(const Gradients& gradients, double lr);
  // Mean loss over the first `sequences` of `data`, nats.
  double evaluate(const DataSource& data, int64_t sequences);
  // Whether the parameters and their loss on a sequence of the last micro-batch are finite.
  bool is_sound();

  Transformer& model() { return model_; }
  const Transformer& model() const { return model_; }
  Optimizer& optimizer() { return *optimizer_; }
  const Optimizer& optimizer() const { return *optimizer_; }
  int64_t tokens() const { return experiment_.train.batch * experiment_.model.context; }  // of a step
  size_t bytes() const { return model_.params().bytes() + optimizer_->bytes() + model_.arena_bytes(); }

 private:
  // body(first, count) for the micro-batches of `sequences`, with inputs_ and targets_ filled.
  template <class Body>
  void for_micro_batches(const DataSource& data, int64_t first_sequence, int64_t sequences, Body body);

  Backend& backend_;
  const Experiment& experiment_;
  Transformer model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<int32_t> inputs_, targets_;
};

}  // namespace sluice
