#include "model/attention/stages/queries_and_keys/rope.h"

namespace sluice {

void RopeStage::rotate(const Pass& pass, const Tensor& heads, bool inverse) const {
  pass.backend.run(Rope{.x = heads,
                        .table = pass.view(table_, pass.plan.buffer(table_).shape),
                        .T = pass.T,
                        .first_position = pass.first_position,
                        .inverse = inverse});
}

StagePart rope_stage() {
  return {.name = "rope",
          .summary = "queries and keys turned by their positions (model.position = rope)",
          .options = nullptr,
          .make = [](const LayerPlace& place, const StageOptions*) -> std::unique_ptr<Stage> {
            return place.d.rope_table ? std::make_unique<RopeStage>(place) : nullptr;
          },
          .in_python = true,
          .example = R"({"position": "rope"})",
          .on_queries_and_keys = true};
}

}  // namespace sluice
