// An observer of passes that none looks at.
#pragma once

#include "model/module/module.h"

namespace sluice::parity {

struct Nobody final : PassObserver {
  void after_block(const Pass&, int64_t) override {}
  void after_attention(const Pass&, int64_t, const Tensor&, const Tensor&) override {}
  void after_mlp(const Pass&, int64_t, const Tensor&, const Tensor&) override {}
  void after_forward(const Pass&) override {}
  void value_gradient(const Pass&, int64_t, const Tensor&, bool) override {}
  void input_gradient(const Pass&, int64_t, const Tensor&) override {}
};

}  // namespace sluice::parity
