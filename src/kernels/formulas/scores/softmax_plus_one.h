// softmax_plus_one ("off by one"): p_ij = e^s_ij / (1 + sum_k e^s_ik): a head may attend to nothing. The 1 is e^0, so
// the row starts at reference 0 with mass 1.
#pragma once

#include "kernels/formulas/scores/softmax.h"

namespace sluice {

struct SoftmaxPlusOne : SoftmaxFamily {
  static constexpr const char* kName = "softmax_plus_one";
  static constexpr const char* kFormula = "e^s_ij / (1 + sum_k e^s_ik)";
  static constexpr const char* kSource = "off by one (E. Miller 2023; arXiv 2410.10781)";
  template <class T, class C>
  static SLUICE_FORMULA RowStart<T> start(T, const LearnedOfHead<T>&, const C&) {
    return {T(0), T(1)};
  }
};

}  // namespace sluice
