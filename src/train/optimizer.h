// Optimizers. AdamW and SGD: one fused pass over the ranges of the flat parameter arenas that a rank updates, with and
// without weight decay. Muon (muon.h) works on matrices.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "experiment/experiment.h"
#include "ranks/gradient_exchange.h"
#include "ranks/partition.h"

namespace sluice {

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // One update with learning rate `lr`; gradients are multiplied by grad_scale (clipping) on the way.
  virtual void update(double lr, double grad_scale) = 0;
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }

  // The state: one flat tensor a slot ("first_moment") on the device.
  const std::vector<std::string>& slots() const { return slots_; }
  Tensor slot(size_t index) const;
  // Where a parameter's state begins in a slot of an optimizer that is not sharded; none: it has none there.
  virtual std::optional<int64_t> place(size_t, const ParamSpec& spec) const { return spec.offset; }
  virtual size_t bytes() const;

 protected:
  Optimizer(Backend& backend, const OptimizerConfig& config, std::vector<std::string> slots);
  void allocate_slots(DType dtype, const std::vector<int64_t>& elements);
  AdamWStep adamw_step(double lr, double grad_scale) const;

  Backend& backend_;
  const OptimizerConfig config_;
  int64_t updates_ = 0;

 private:
  friend std::unique_ptr<Optimizer> make_optimizer(Backend&, const Params&, const GradientExchange&, const Partition&,
                                                   const OptimizerConfig&);
  virtual void allocate(const Params& params, const GradientExchange& gradients, const Partition& partition) = 0;

  std::vector<std::string> slots_;
  std::vector<Arena> arenas_;  // one a slot
  DType dtype_ = DType::kF32;
};

// Updates the ranges of `partition`. Where that is only a part of the parameters, the bf16 copy is left to the caller.
std::unique_ptr<Optimizer> make_optimizer(Backend& backend, const Params& params, const GradientExchange& gradients,
                                          const Partition& partition, const OptimizerConfig& config);

}  // namespace sluice
