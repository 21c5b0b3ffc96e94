#include "kernels/ops/stages/window_order.h"

#include "kernels/ops/check.h"

namespace sluice {

void WindowOrder::check() const {
  const OpCheck op(kName);
  op.require_present("order", order);
  op.require(T > 0 && order.elements() % (kOrderPlanes * T) == 0, "the rows must be whole sequences");
  op.require(int64_t(permutation.size) >= T, "every token needs a slot");
  op.require(reach > 0, "a row sees itself at least");
  op.flat("order", order, DType::kI32, order.elements());
  op.flat("first_key", first_key, DType::kI32, order.elements() / kOrderPlanes, Presence::kOptional);
}

void WindowOrder::check_values() const { OpCheck(kName).documents(first_key, T); }

}  // namespace sluice
