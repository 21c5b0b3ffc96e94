// What an exported folder says to people: README.md, in the form of a model card (YAML in front, then Markdown).
#pragma once

#include <string>

#include "interchange/export.h"
#include "interchange/foreign_config.h"
#include "runs/checkpoint.h"

namespace sluice {

// What the run's folder does not have (figures, a description of its data) is left out.
std::string model_card(const Checkpoint& checkpoint, const ModelConfig& model, const ExportResult& result,
                       const ExportOptions& options);

}  // namespace sluice
