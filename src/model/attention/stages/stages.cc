// The list of stages: a new one is its files and a line here, at the place where it acts.
#include "model/attention/stages/affine.h"
#include "model/attention/stages/difference.h"
#include "model/attention/stages/exclude_self.h"
#include "model/attention/stages/feature_map.h"
#include "model/attention/stages/gate.h"
#include "model/attention/stages/output_norm.h"
#include "model/attention/stages/queries_and_keys/head_norm.h"
#include "model/attention/stages/queries_and_keys/qk_source.h"
#include "model/attention/stages/queries_and_keys/rope.h"
#include "model/attention/stages/queries_and_keys/unit_length.h"
#include "model/attention/stages/routed_heads.h"
#include "model/attention/stages/value_residual.h"
#include "model/config/attention_parts.h"

namespace sluice {

template <>
std::vector<StagePart>& part_list() {
  static std::vector<StagePart> list = {
      qk_source_stage(),   head_norm_stage(),      unit_length_stage(),  feature_map_stage(), rope_stage(),
      value_map_stage(),   value_residual_stage(), difference_stage(),   affine_stage(),      exclude_self_stage(),
      output_norm_stage(), gate_stage(),           routed_heads_stage(),
  };
  return list;
}

const std::vector<StagePart>& attention_stages() { return part_list<StagePart>(); }

}  // namespace sluice
