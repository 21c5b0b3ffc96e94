// Analyses as tables of text.
#pragma once

#include <string>
#include <vector>

#include "measure/figures/analysis.h"

namespace sluice {

// The model's figures, one row an analysis; then of the last one the sink rates by threshold, the layers and the heads,
// and how to read it all. At most `max_width` characters a line, where that is possible. Not empty: `analyses`.
std::string analysis_text(const std::vector<Analysis>& analyses, size_t max_width);

}  // namespace sluice
