// How ops are timed: the same call several times, waited for.
#pragma once

#include <algorithm>
#include <vector>

#include "base/stopwatch.h"
#include "kernels/backend.h"

namespace sluice {

// Seconds of each of `runs` calls after one that is left out, from the shortest to the longest. As many calls at once
// as the device asks for.
template <class Op>
std::vector<double> call_seconds(Backend& backend, const Op& op, int runs) {
  const int at_once = backend.traits().launches_to_time;
  std::vector<double> seconds;
  for (int run = 0; run <= runs; ++run) {
    const Stopwatch watch;
    for (int i = 0; i < at_once; ++i) backend.run(op);
    backend.synchronize();
    if (run > 0) seconds.push_back(watch.seconds() / at_once);
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

inline double median_of_sorted(const std::vector<double>& values) { return values[values.size() / 2]; }

}  // namespace sluice
