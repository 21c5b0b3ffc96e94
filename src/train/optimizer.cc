#include "train/optimizer.h"

namespace sluice {

Optimizer::Optimizer(Backend& backend, Params& params, const OptimizerConfig& config, std::vector<std::string> slots)
    : backend_(backend), config_(config), params_(params), slots_(std::move(slots)) {
  for (size_t i = 0; i < slots_.size(); ++i) arenas_.emplace_back(backend, params.all_values().bytes());
}

OptimizerRange Optimizer::range(int64_t first, int64_t count, double weight_decay) const {
  const auto part = [&](const Tensor& whole) {
    return whole ? whole.reshaped({whole.elements(), 1}).row_range(first, count).reshaped({count}) : Tensor{};
  };
  const Tensor values = params_.all_values();
  const auto slot = [&](size_t i) {
    return i < arenas_.size() ? part(arenas_[i].at(0, values.dtype, values.shape)) : Tensor{};
  };
  return {part(values), part(params_.all_grads()), slot(0), slot(1), part(params_.all_copies()), weight_decay};
}

void Optimizer::update(double lr, double grad_scale) {
  ++updates_;
  const int64_t decayed = params_.decayed_count(), rest = params_.padded_count() - decayed;
  if (decayed > 0) update_range(range(0, decayed, config_.weight_decay), lr, grad_scale);
  if (rest > 0) update_range(range(decayed, rest, 0), lr, grad_scale);
}

std::vector<NamedTensor> Optimizer::state() const {
  std::vector<NamedTensor> tensors;
  const DType dtype = params_.all_values().dtype;
  for (size_t i = 0; i < slots_.size(); ++i)
    for (const ParamSpec& spec : params_.specs())
      tensors.push_back(
          {slots_[i] + "." + spec.name, arenas_[i].at(size_t(spec.offset) * size_of(dtype), dtype, spec.shape)});
  return tensors;
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
  AdamW(Backend& backend, Params& params, const OptimizerConfig& config)
      : Optimizer(backend, params, config, {"first_moment", "second_moment"}) {}

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
  Sgd(Backend& backend, Params& params, const OptimizerConfig& config) : Optimizer(backend, params, config, {"momentum"}) {}

 private:
  void update_range(const OptimizerRange& range, double lr, double grad_scale) override {
    backend_.sgd_update(range, {.lr = lr, .momentum = config_.momentum, .grad_scale = grad_scale});
  }
};

}  // namespace

std::unique_ptr<Optimizer> make_optimizer(Backend& backend, Params& params, const OptimizerConfig& config) {
  if (config.type == "sgd") return std::make_unique<Sgd>(backend, params, config);
  return std::make_unique<AdamW>(backend, params, config);
}

}  // namespace sluice
