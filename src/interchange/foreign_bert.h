// BERT (arXiv 1810.04805) as the transformers library has it, with the head of its masked language model.
#pragma once

#include "interchange/config_reader.h"
#include "model/config/config.h"

namespace sluice {

// Whether the library's class computes what the model does.
bool is_bert(const ModelConfig& model);

Json bert_config(const ModelConfig& model);  // of config.json, what no other family has
Json read_bert(const ConfigReader& config);  // the model group; UserError

}  // namespace sluice
