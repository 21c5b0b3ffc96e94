// The list of residuals: a new one is its files and a line here.
#include "model/config/residual_parts.h"
#include "model/residual/add.h"
#include "model/residual/depth.h"
#include "model/residual/post_norm.h"

namespace sluice {

template <>
std::vector<ResidualPart>& part_list() {
  static std::vector<ResidualPart> list = {
      add_residual(),
      attention_residual(),
      delta_residual(),
      post_norm_residual(),
  };
  return list;
}

const std::vector<ResidualPart>& residuals() { return part_list<ResidualPart>(); }

}  // namespace sluice
