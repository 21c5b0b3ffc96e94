// The tokenizer of a trained model, for commands that give it text.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "data/tokenizers/tokenizer.h"
#include "experiment/experiment.h"

namespace sluice {

// `experiment` is the checkpoint's; `given` is what --tokenizer says; where it is empty, the one that the run's config
// names (data.tokenizer). UserError where neither does, for one that the run was not trained with, and for one with
// more tokens than the model.
std::unique_ptr<Tokenizer> tokenizer_of(const std::filesystem::path& checkpoint, const Experiment& experiment,
                                        const std::string& given);

}  // namespace sluice
