#include "interchange/foreign_fields.h"

#include <fmt/ranges.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

namespace sluice {
namespace {

// The names of transformers for model.mlp. Its "gelu" is the exact one.
constexpr std::array<std::pair<const char*, const char*>, 7> kActivations = {{{"gelu_new", "gelu"},
                                                                              {"gelu_pytorch_tanh", "gelu"},
                                                                              {"gelu_fast", "gelu"},
                                                                              {"gelu", "gelu_erf"},
                                                                              {"gelu_python", "gelu_erf"},
                                                                              {"relu", "relu"},
                                                                              {"relu2", "relu_squared"}}};

}  // namespace

void take_init_std(Json& model, const ConfigReader& config, const char* key) {
  const double std = config.number(key, 0);
  if (std > 0 && std < 10) model["init_std"] = std;
}

const char* read_activation(const ConfigReader& config, const char* key, const char* otherwise) {
  const std::string activation = config.text(key, otherwise);
  std::vector<std::string> names;
  for (const auto& [theirs, ours] : kActivations) {
    names.push_back(theirs);
    if (activation == theirs) return ours;
  }
  config.refuse(key, fmt::format("Sluice computes {}", fmt::join(names, ", ")));
}

int64_t read_heads(const ConfigReader& config, const char* key) {
  const int64_t heads = config.integer(key);
  if (heads < 1) config.refuse(key, "a model has at least one");
  return heads;
}

}  // namespace sluice
