// The file of HellaSwag's examples (arXiv 1905.07830).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

struct HellaSwagExample {
  std::string context;
  std::vector<std::string> endings;
  size_t label = 0;
};

// Reads the public JSON lines (ctx, endings, label); 0 examples: all. UserError names the line.
std::vector<HellaSwagExample> read_hellaswag(const std::string& path, int64_t examples = 0);

}  // namespace sluice
