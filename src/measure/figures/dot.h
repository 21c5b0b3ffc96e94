// The sum of products of n numbers, in double.
#pragma once

#include <cstdint>

namespace sluice {

template <class T>
double dot(const T* a, const T* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double(a[i]) * double(b[i]);
  return sum;
}

}  // namespace sluice
