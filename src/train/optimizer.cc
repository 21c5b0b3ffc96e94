#include "train/optimizer.h"

namespace sluice {

Optimizer::Optimizer(Backend& backend, const OptimizerConfig& config, std::vector<std::string> slots)
    : backend_(backend), config_(config), slots_(std::move(slots)) {}

void Optimizer::allocate(const Params& params, const GradientExchange& gradients, const Partition& partition) {
  const Tensor values = params.all_values();
  const Tensor copies = partition.kept == values.elements() ? params.all_copies() : Tensor{};
  for (size_t i = 0; i < slots_.size(); ++i)
    arenas_.emplace_back(backend_, size_t(partition.kept) * size_of(values.dtype));
  for (const Partition::Range& part : partition.ranges) {
    const auto state = [&](size_t i) {
      return i < arenas_.size() ? slice(arenas_[i].at(0, values.dtype, {partition.kept}), part.local, part.count)
                                : Tensor{};
    };
    ranges_.push_back({.param = slice(values, part.flat, part.count),
                       .grad = gradients.summed(part),
                       .first_moment = state(0),
                       .second_moment = state(1),
                       .compute_copy = slice(copies, part.flat, part.count),
                       .weight_decay = part.decays ? config_.weight_decay : 0});
  }
}

void Optimizer::update(double lr, double grad_scale) {
  ++updates_;
  for (const OptimizerRange& range : ranges_) update_range(range, lr, grad_scale);
}

Tensor Optimizer::slot(size_t index) const {
  const DType dtype = ranges_.front().param.dtype;
  return arenas_[index].at(0, dtype, {int64_t(arenas_[index].bytes() / size_of(dtype))});
}

size_t Optimizer::bytes() const {
  size_t total = 0;
  for (const Arena& arena : arenas_) total += arena.bytes();
  return total;
}

namespace {

// arXiv 1711.05101
class AdamW final : public Optimizer {
 public:
  AdamW(Backend& backend, const OptimizerConfig& config)
      : Optimizer(backend, config, {"first_moment", "second_moment"}) {}

 private:
  void update_range(const OptimizerRange& range, double lr, double grad_scale) override {
    backend_.adamw_update(range, {.lr = lr,
                                  .beta1 = config_.betas[0],
                                  .beta2 = config_.betas[1],
                                  .epsilon = config_.epsilon,
                                  .step = updates_,
                                  .grad_scale = grad_scale});
  }
};

class Sgd final : public Optimizer {
 public:
  Sgd(Backend& backend, const OptimizerConfig& config) : Optimizer(backend, config, {"momentum"}) {}

 private:
  void update_range(const OptimizerRange& range, double lr, double grad_scale) override {
    backend_.sgd_update(range, {.lr = lr, .momentum = config_.momentum, .grad_scale = grad_scale});
  }
};

}  // namespace

std::unique_ptr<Optimizer> make_optimizer(Backend& backend, const Params& params, const GradientExchange& gradients,
                                          const Partition& partition, const OptimizerConfig& config) {
  std::unique_ptr<Optimizer> optimizer;
  if (config.type == "sgd")
    optimizer = std::make_unique<Sgd>(backend, config);
  else
    optimizer = std::make_unique<AdamW>(backend, config);
  optimizer->allocate(params, gradients, partition);
  return optimizer;
}

}  // namespace sluice
