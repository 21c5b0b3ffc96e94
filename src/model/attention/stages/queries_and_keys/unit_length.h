// Queries and keys of length 1, head by head: x / sqrt(|x|^2 + model.norm_epsilon), so that their products are cosines
// (TDA, arXiv 2601.12145). No parameters; the work is HeadNorm's. A learned key of the core's keeps its length.
#pragma once

#include "model/config/attention_parts.h"

namespace sluice {

struct UnitLengthOptions final : StageOptions {
  bool on = false;

  bool present() const override { return on; }
  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<UnitLengthOptions>(*this); }
  void describe(Fields& attention) override;
  std::string text() const override { return "queries and keys of length 1"; }
};

StagePart unit_length_stage();

}  // namespace sluice
