#include "train/learner.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/machine_memory.h"

namespace sluice {
namespace {

constexpr int64_t kAlignment = 16;  // elements of a rank's piece of a bucket

// One rank has nobody to share with.
int64_t zero_of(const Experiment& experiment, const Communicator& ranks) {
  return ranks.size() > 1 ? experiment.train.zero : 0;
}

// Of the optimizer, in bytes of fp32; Muon keeps one moment of the hidden matrices, two of the rest.
double state_per_parameter(const Experiment& experiment, const Communicator& ranks) {
  const double slots = experiment.train.optimizer.type == "adamw" ? 2 : 1;
  const double shares = zero_of(experiment, ranks) > 0 ? ranks.size() : 1;
  return slots * double(sizeof(float)) / shares;
}

TransformerOptions model_options(const Experiment& experiment, const Communicator& ranks) {
  const TrainConfig& train = experiment.train;
  TransformerOptions options;
  options.act = experiment.act();
  options.max_batch = std::min(train.micro_batch, train.batch / ranks.size());
  options.recompute = train.recompute;
  options.decayed = train.optimizer.decay_groups();
  options.gradients.passing = zero_of(experiment, ranks) == 2;
  options.state_per_parameter = state_per_parameter(experiment, ranks);
  options.batch_key = "train.micro_batch";
  if (ranks.size() > 1) {
    options.gradients.bucket_parameters = std::max<int64_t>(1, int64_t(train.bucket_mb * 1e6 / double(sizeof(float))));
    options.gradients.multiple = kAlignment * ranks.size();
  }
  return options;
}

Partition partition_of(const Experiment& experiment, const Communicator& ranks, const Params& params) {
  const bool sharded = zero_of(experiment, ranks) > 0;
  return sharded ? Partition(params.buckets(), ranks.rank(), ranks.size()) : Partition(params.buckets(), 0, 1);
}

}  // namespace

void check_ranks(const TrainConfig& config, int ranks) {
  if (config.batch % ranks != 0)
    throw UserError("train.batch is {}, but {} ranks can only share a multiple of {} evenly", config.batch, ranks,
                    ranks);
}

void check_memory(const Experiment& experiment, const Communicator& ranks) {
  const std::unique_ptr<Backend> backend = make_cpu_backend();
  TransformerOptions options = model_options(experiment, ranks);
  options.allocate = false;
  require_memory(Transformer(*backend, experiment.model, options).memory_need(), available_memory(),
                 ranks.place().local_size);
}

Learner::Learner(Backend& backend, const Experiment& experiment, Communicator& ranks)
    : backend_(backend),
      experiment_(experiment),
      ranks_(ranks),
      share_(experiment.train.batch / ranks.size()),
      model_(backend, experiment.model, model_options(experiment, ranks)),
      exchange_(backend, model_.params(), ranks, zero_of(experiment, ranks)),
      partition_(partition_of(experiment, ranks, model_.params())),
      optimizer_(make_optimizer(backend, model_.params(), exchange_, partition_, experiment.train.optimizer)),
      micro_batches_(model_.max_batch()) {
  check_ranks(experiment.train, ranks.size());
}

Gradients Learner::differentiate(const DataSource& data, int64_t first_sequence) {
  const double scale = 1.0 / double(experiment_.train.batch * data.predictions());
  double loss = 0;
  int64_t done = 0;  // sequences
  const int64_t first = first_sequence + ranks_.rank() * share_;
  micro_batches_.for_each(data, first, share_, [&](const Batch& batch) {
    exchange_.begin(done == 0, done + batch.B == share_);
    loss += scale * model_.forward_backward(batch, scale, done > 0, ranks_.size() > 1 ? &exchange_ : nullptr,
                                            {experiment_.seed, first + done});
    done += batch.B;
    exchange_.finish();
    ranks_.settle();  // the limit is one micro-batch's
  });
  struct Share {
    double loss, squares;
  };
  Share sum{};
  for (const Share& share : ranks_.gather(Share{loss, exchange_.squares()})) {
    sum.loss += share.loss;
    sum.squares += share.squares;
  }
  if (!model_.averages().empty()) {
    ranks_.start_all_reduce(model_.averages().all_observed());
    ranks_.finish();
  }
  return {sum.loss, std::sqrt(sum.squares), summed_part_losses()};
}

std::vector<double> Learner::summed_part_losses() {
  std::vector<double> losses = model_.part_losses();
  for (double& loss : losses) loss = ranks_.sum(loss);
  return losses;
}

void Learner::update(const Gradients& gradients, double lr) {
  const double clip = experiment_.train.grad_clip;
  optimizer_->update(lr, clip > 0 && gradients.norm > clip ? clip / gradients.norm : 1.0);
  model_.averages().update(backend_);
  if (is_sharded()) gather_parameters();
  backend_.synchronize();
}

void Learner::gather_parameters() {
  const Params& params = model_.params();
  for (const ParamBucket& bucket : params.buckets())
    ranks_.start_all_gather(slice(params.all_values(), bucket.begin, bucket.size()));
  ranks_.finish();
  model_.params().refresh_compute_copy(backend_);
  ranks_.settle();
}

double Learner::evaluate(const DataSource& data, int64_t sequences) {
  const int64_t rank = ranks_.rank(), size = ranks_.size();
  const int64_t first = sequences * rank / size, end = sequences * (rank + 1) / size;
  double loss = 0;
  micro_batches_.for_each(data, first, end - first, [&](const Batch& batch) {
    loss += model_.loss(batch) / double(sequences * data.predictions());
  });
  return ranks_.sum(loss);
}

bool Learner::is_sound() {
  const std::vector<int32_t> zeros(size_t(experiment_.model.context));
  return ranks_.all(std::isfinite(backend_.run(SumOfSquares{model_.params().all_values()})) &&
                    std::isfinite(model_.loss({zeros.data(), zeros.data(), 1, experiment_.model.context})));
}

size_t Learner::bytes() const {
  return model_.params().bytes() + model_.averages().bytes() + exchange_.bytes() + optimizer_->bytes() +
         model_.arena_bytes();
}

}  // namespace sluice
