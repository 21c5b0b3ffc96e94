// Optimizers: one fused pass over the flat parameter arenas, in two ranges (with and without weight decay).
#pragma once

#include <memory>
#include <vector>

#include "model/params.h"
#include "train/experiment.h"
#include "train/safetensors.h"

namespace sluice {

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // One update with learning rate `lr`; gradients are multiplied by grad_scale (clipping) on the way.
  void update(double lr, double grad_scale);
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }
  // The state by parameter name ("first_moment.blocks.0.mlp.up.weight"), on the device.
  std::vector<NamedTensor> state() const;
  size_t bytes() const;

 protected:
  Optimizer(Backend& backend, Params& params, const OptimizerConfig& config, std::vector<std::string> slots);
  virtual void update_range(const OptimizerRange& range, double lr, double grad_scale) = 0;

  Backend& backend_;
  const OptimizerConfig config_;
  int64_t updates_ = 0;

 private:
  OptimizerRange range(int64_t first, int64_t count, double weight_decay) const;

  Params& params_;
  std::vector<std::string> slots_;
  std::vector<Arena> arenas_;  // one a slot, as long as the parameters'
};

std::unique_ptr<Optimizer> make_optimizer(Backend& backend, Params& params, const OptimizerConfig& config);

}  // namespace sluice
