#include "train/learner.h"

#include <algorithm>
#include <cmath>

namespace sluice {
namespace {

TransformerOptions model_options(const Experiment& experiment) {
  TransformerOptions options;
  options.act = experiment.act();
  options.max_batch = experiment.train.micro_batch;
  options.recompute = experiment.train.recompute_policy();
  options.decayed = experiment.train.optimizer.decay_groups();
  return options;
}

}  // namespace

Learner::Learner(Backend& backend, const Experiment& experiment)
    : backend_(backend), experiment_(experiment), model_(backend, experiment.model, model_options(experiment)),
      optimizer_(make_optimizer(backend, model_.params(), experiment.train.optimizer)),
      inputs_(size_t(experiment.train.micro_batch * experiment.model.context)), targets_(inputs_.size()) {}

template <class Body>
void Learner::for_micro_batches(const DataSource& data, int64_t first_sequence, int64_t sequences, Body body) {
  for (int64_t first = 0; first < sequences; first += experiment_.train.micro_batch) {
    const int64_t count = std::min(experiment_.train.micro_batch, sequences - first);
    data.fill(first_sequence + first, count, inputs_.data(), targets_.data());
    body(first, count);
  }
}

Gradients Learner::differentiate(const DataSource& data, int64_t first_sequence) {
  const double scale = 1.0 / double(tokens());
  Gradients gradients;
  for_micro_batches(data, first_sequence, experiment_.train.batch, [&](int64_t first, int64_t count) {
    gradients.loss += scale * model_.forward_backward(inputs_.data(), targets_.data(), count, experiment_.model.context,
                                                      scale, first > 0);
  });
  gradients.norm = std::sqrt(backend_.sum_of_squares(model_.params().all_grads()));
  return gradients;
}

void Learner::update(const Gradients& gradients, double lr) {
  const double clip = experiment_.train.grad_clip;
  optimizer_->update(lr, clip > 0 && gradients.norm > clip ? clip / gradients.norm : 1.0);
  backend_.synchronize();
}

double Learner::evaluate(const DataSource& data, int64_t sequences) {
  const int64_t T = experiment_.model.context;
  double loss = 0;
  for_micro_batches(data, 0, sequences, [&](int64_t, int64_t count) {
    loss += model_.loss(inputs_.data(), targets_.data(), count, T) / double(sequences * T);
  });
  return loss;
}

bool Learner::is_sound() {
  return std::isfinite(backend_.sum_of_squares(model_.params().all_values())) &&
         std::isfinite(model_.loss(inputs_.data(), targets_.data(), 1, experiment_.model.context));
}

}  // namespace sluice
