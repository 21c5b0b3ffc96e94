#include "model/attention/stages/queries_and_keys/unit_length.h"

#include "model/attention/stages/queries_and_keys/head_norm.h"

namespace sluice {

void UnitLengthOptions::describe(Fields& attention) {
  attention.add("unit_length", on,
                "every query and key head is divided by its length, before rope: their products are cosines");
}

StagePart unit_length_stage() {
  return {.name = "unit_length",
          .summary = "queries and keys of length 1",
          .options = []() -> std::unique_ptr<StageOptions> { return std::make_unique<UnitLengthOptions>(); },
          .make = [](const LayerPlace& place, const StageOptions* options) -> std::unique_ptr<Stage> {
            return options->present() ? std::make_unique<HeadNorm>(place, false) : nullptr;
          },
          .in_python = true,
          .example = R"({"attention": {"type": "custom", "unit_length": true}})",
          .on_queries_and_keys = true};
}

}  // namespace sluice
