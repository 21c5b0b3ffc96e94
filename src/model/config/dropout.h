// model.dropout: with what probabilities values are dropped while a model learns (kernels/formulas/dropout.h).
#pragma once

#include "base/config/config.h"

namespace sluice {

struct ModelConfig;

struct DropoutConfig {
  double hidden = 0, attention = 0, embedding = 0;

  void describe(Fields& fields);
  void add_to(Fields& model);                    // the group "dropout"
  void resolve(const ModelConfig& model) const;  // UserError
  bool any() const { return hidden > 0 || attention > 0 || embedding > 0; }
};

}  // namespace sluice
