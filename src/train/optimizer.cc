#include "train/optimizer.h"

#include "train/muon.h"

namespace sluice {

Optimizer::Optimizer(Backend& backend, const OptimizerConfig& config, std::vector<std::string> slots)
    : backend_(backend), config_(config), slots_(std::move(slots)) {}

void Optimizer::allocate_slots(DType dtype, const std::vector<int64_t>& elements) {
  check_eq(elements.size(), slots_.size(), "allocate_slots: a size for each slot");
  dtype_ = dtype;
  for (const int64_t count : elements) arenas_.emplace_back(backend_, size_t(count) * size_of(dtype));
}

AdamWStep Optimizer::adamw_step(double lr, double grad_scale) const {
  return {.lr = lr,
          .beta1 = config_.betas[0],
          .beta2 = config_.betas[1],
          .epsilon = config_.epsilon,
          .step = updates_,
          .grad_scale = grad_scale};
}

Tensor Optimizer::slot(size_t index) const {
  return arenas_[index].at(0, dtype_, {int64_t(arenas_[index].bytes() / size_of(dtype_))});
}

size_t Optimizer::bytes() const {
  size_t total = 0;
  for (const Arena& arena : arenas_) total += arena.bytes();
  return total;
}

namespace {

// An update that knows elements only: range by range of what the rank keeps.
class ElementwiseOptimizer : public Optimizer {
 public:
  using Optimizer::Optimizer;

  void update(double lr, double grad_scale) override {
    ++updates_;
    for (const OptimizerRange& range : ranges_) update_range(range, lr, grad_scale);
  }

 private:
  virtual void update_range(const OptimizerRange& range, double lr, double grad_scale) = 0;

  void allocate(const Params& params, const GradientExchange& gradients, const Partition& partition) override {
    const Tensor values = params.all_values();
    const Tensor copies = partition.kept == values.elements() ? params.all_copies() : Tensor{};
    allocate_slots(values.dtype, std::vector<int64_t>(slots().size(), partition.kept));
    for (const Partition::Range& part : partition.ranges) {
      const auto state = [&](size_t i) {
        return i < slots().size() ? slice(slot(i), part.local, part.count) : Tensor{};
      };
      ranges_.push_back({.param = slice(values, part.flat, part.count),
                         .grad = gradients.summed(part),
                         .first_moment = state(0),
                         .second_moment = state(1),
                         .compute_copy = slice(copies, part.flat, part.count),
                         .weight_decay = part.decays ? config_.weight_decay : 0});
    }
  }

  std::vector<OptimizerRange> ranges_;
};

// arXiv 1711.05101
class AdamW final : public ElementwiseOptimizer {
 public:
  AdamW(Backend& backend, const OptimizerConfig& config)
      : ElementwiseOptimizer(backend, config, {"first_moment", "second_moment"}) {}

 private:
  void update_range(const OptimizerRange& range, double lr, double grad_scale) override {
    backend_.run(AdamWUpdate{range, adamw_step(lr, grad_scale)});
  }
};

class Sgd final : public ElementwiseOptimizer {
 public:
  Sgd(Backend& backend, const OptimizerConfig& config) : ElementwiseOptimizer(backend, config, {"momentum"}) {}

 private:
  void update_range(const OptimizerRange& range, double lr, double grad_scale) override {
    backend_.run(SgdUpdate{range, {.lr = lr, .momentum = config_.momentum, .grad_scale = grad_scale}});
  }
};

}  // namespace

std::unique_ptr<Optimizer> make_optimizer(Backend& backend, const Params& params, const GradientExchange& gradients,
                                          const Partition& partition, const OptimizerConfig& config) {
  std::unique_ptr<Optimizer> optimizer;
  if (config.type == "sgd") optimizer = std::make_unique<Sgd>(backend, config);
  else if (config.type == "muon") optimizer = std::make_unique<Muon>(backend, config);
  else optimizer = std::make_unique<AdamW>(backend, config);
  optimizer->allocate(params, gradients, partition);
  return optimizer;
}

}  // namespace sluice
