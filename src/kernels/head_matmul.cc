// The slices of HeadMatmul, see backend.h.
#include "kernels/backend.h"

namespace sluice {

MatmulArgs HeadMatmul::of_head(int64_t head) const {
  const auto columns = [&](const Tensor& t) { return t.columns(head * (t.cols() / heads), t.cols() / heads); };
  const auto rows = [&](const Tensor& t) { return t.row_range(head * (t.rows() / heads), t.rows() / heads); };
  MatmulArgs one = all;
  one.a = columns(all.a);
  one.b = all.transpose_a ? columns(all.b) : rows(all.b);
  one.out = all.transpose_a ? rows(all.out) : columns(all.out);
  if (all.bias) one.bias = columns(all.bias).reshaped({one.out.cols()});
  return one;
}

}  // namespace sluice
