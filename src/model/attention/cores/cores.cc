// The list of cores: a new one is its files and a line here.
#include "model/attention/cores/flow.h"
#include "model/attention/cores/key_only.h"
#include "model/attention/cores/linear.h"
#include "model/attention/cores/mlp.h"
#include "model/attention/cores/tiles.h"
#include "model/config/attention_parts.h"

namespace sluice {

template <>
std::vector<CorePart>& part_list() {
  static std::vector<CorePart> list = {
      tiles_core(), key_only_core(), linear_core(), flow_core(), mlp_core(),
  };
  return list;
}

const std::vector<CorePart>& attention_cores() { return part_list<CorePart>(); }

}  // namespace sluice
