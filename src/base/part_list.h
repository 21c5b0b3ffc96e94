// Lists of parts: those of the project, and while a Listed lives, one more.
#pragma once

#include <utility>
#include <vector>

namespace sluice {

// The list of a kind of parts, in its order. Defined once for each kind, where its parts are named.
template <class Part>
std::vector<Part>& part_list();

// A part that stands in its list as long as this lives, last: for tests, and for programs with parts of their own. No
// model or config with it may outlive it.
template <class Part>
class Listed {
 public:
  explicit Listed(Part part) { part_list<Part>().push_back(std::move(part)); }
  ~Listed() { part_list<Part>().pop_back(); }
  Listed(const Listed&) = delete;
  Listed& operator=(const Listed&) = delete;
};

}  // namespace sluice
