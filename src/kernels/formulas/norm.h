// Layer normalisation of one element (Ba et al. 2016): out = xhat gain + bias with xhat = (x - mean) rstd, and
// d_x = rstd (e - mean(e) - xhat mean(e xhat)) with e = d_out gain; the means run over the row.
#pragma once

#include "kernels/formulas/math.h"

namespace sluice {

template <class V>
SLUICE_FORMULA V normalised(V x, V mean, V rstd) {
  return (x - mean) * rstd;
}

template <class V>
SLUICE_FORMULA V norm_input_gradient(V e, V xhat, V mean_e, V mean_e_xhat, V rstd) {
  return rstd * (e - mean_e - xhat * mean_e_xhat);
}

}  // namespace sluice
