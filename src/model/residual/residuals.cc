// The list of residuals: a new one is its files and a line here.
#include "model/residual/add.h"
#include "model/residual/parts.h"

namespace sluice {
namespace {

std::vector<ResidualPart>& list() {
  static std::vector<ResidualPart> list = {
      add_residual(),
  };
  return list;
}

}  // namespace

const std::vector<ResidualPart>& residuals() { return list(); }

ListedResidual::ListedResidual(ResidualPart part) { list().push_back(part); }
ListedResidual::~ListedResidual() { list().pop_back(); }

}  // namespace sluice
