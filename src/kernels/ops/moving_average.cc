#include "kernels/ops/moving_average.h"

#include "kernels/ops/check.h"

namespace sluice {

void MovingAverage::check() const {
  const OpCheck op(kName);
  op.require_present("average", average);
  op.flat("average", average, accumulator_of(average.dtype), average.elements());
  op.flat("x", x, average.dtype, average.elements());
  op.require(keep >= 0 && keep <= 1, "keep is a share");
}

}  // namespace sluice
