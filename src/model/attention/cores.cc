// The list of cores: a new one is its files and a line here.
#include "model/attention/cores/tiles.h"
#include "model/attention/parts.h"

namespace sluice {
namespace {

std::vector<CorePart>& cores() {
  static std::vector<CorePart> list = {
      tiles_core(),
  };
  return list;
}

}  // namespace

const std::vector<CorePart>& attention_cores() { return cores(); }

ListedCore::ListedCore(CorePart part) { cores().push_back(part); }
ListedCore::~ListedCore() { cores().pop_back(); }

}  // namespace sluice
