// Layer normalisation of one element (Ba et al. 2016): out = xhat gain + bias with xhat = (x - mean) rstd, and
// d_x = rstd (e - mean(e) - xhat mean(e xhat)) with e = d_out gain; the means run over the row.
// RMSNorm (arXiv 1910.07467) does not centre: the same with mean = 0, no bias, and 0 for mean(e).
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
