// What keeps the runs of a comparison from being comparable: one line each.
#pragma once

#include <string>
#include <vector>

#include "report/compare.h"

namespace sluice {

// Of the runs and rows of a comparison.
std::vector<std::string> find_warnings(const Comparison& comparison);

}  // namespace sluice
