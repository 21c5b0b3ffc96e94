// Gradients of whole models (gradient_check.h) for every preset, every combination of gate parts and the model's other
// choices.
#include "model/gradient_check.h"

#include "model/attention/cores/tiles_options.h"

namespace sluice {
namespace {

using namespace parity::gradients;

// ---- every preset ------------------------------------------------------------------------------------------------

TEST(ModelGradient, EveryPreset) {
  for (const AttentionPreset& preset : attention_presets()) {
    for (const int64_t context : {1, 3}) check_gradients({{"attention", preset.name}, {"context", context}});
    check_gradients({{"attention", preset.name}, {"kv_heads", 1}, {"mlp", "relu"}, {"bias", false}});
    check_gradients({{"attention", preset.name},
                     {"kv_heads", 1},
                     {"norm", "rmsnorm"},
                     {"position", "rope"},
                     {"mlp", "swiglu"},
                     {"qk_norm", true},
                     {"bias", false}});
  }
}

// More than one tile of queries and keys; the smallest model, for speed.
TEST(ModelGradient, EveryPresetOverMoreThanATile) {
  for (const AttentionPreset& preset : attention_presets())
    check_gradients({{"attention", preset.name}, {"context", 65}, {"layers", 1}, {"width", 8}, {"mlp_width", 8}});
}

// ---- every gate --------------------------------------------------------------------------------------------------

TEST(ModelGradient, EveryGate) {
  int which = 0;
  for (const char* reads : {"hidden", "hidden_head", "value"})
    for (const char* site : {"source", "output"})
      for (const char* grain : {"head", "element"}) {
        const bool shared = std::string(reads) != "hidden_head" || std::string(site) != "source";  // needs own values
        check_gradients(
            {{"attention", {{"gate", {{"reads", reads}, {"site", site}, {"grain", grain}, {"bias", which % 2 == 0}}}}},
             {"kv_heads", shared && which % 3 > 0 ? 1 : 2}});
        ++which;
      }
}

TEST(ModelGradient, GatesThatReadWhatTheyScale) {
  for (const char* reads : {"output", "output_head", "hidden_and_output", "hidden_and_output_head"})
    for (const char* grain : {"head", "element"})
      for (const int rank : {0, 2})
        check_gradients(
            {{"attention", {{"gate", {{"reads", reads}, {"grain", grain}, {"bias", true}, {"rank", rank}}}}},
             {"kv_heads", rank == 0 ? 1 : 2}});
  check_gradients({{"attention", {{"reads", "output"}, {"rank", 3}, {"exclude_self", true}}}, {"value_head_size", 9}});
}

// What the first reads, what the second: each with gates of both sites that it can be beside.
TEST(ModelGradient, ProductsOfTwoGates) {
  const Json values = {{"reads", "value"}, {"grain", "element"}, {"rank", 2}, {"bias", true}};
  const Json results = {{"reads", "output"}, {"grain", "head"}};
  for (const char* reads : {"hidden", "value", "output_head", "hidden_and_output_head"})
    for (const Json& second : {values, results})
      check_gradients({{"attention", {{"gate", {{"reads", reads}, {"bias", true}, {"second", second}}}}},
                       {"kv_heads", second == values ? 1 : 2}});
  for (const char* reads : {"hidden", "value"})
    check_gradients(
        {{"attention", {{"gate", {{"reads", reads}, {"site", "source"}, {"second", values}}}}}, {"kv_heads", 1}});
  check_gradients({{"attention", {{"type", "hyga"}, {"rank", 3}, {"exclude_self", true}}}, {"value_head_size", 9}});
}

TEST(ModelGradient, NormsWithGates) {
  for (const char* norm : {"rmsnorm", "layernorm"})
    for (const bool parallel : {false, true})
      check_gradients({{"norm", norm}, {"norm_gate", 3}, {"parallel_residual", parallel}, {"attention", "vga"}});
}

TEST(ModelGradient, GatesOfLowRank) {
  for (const char* reads : {"hidden", "value"})
    for (const char* site : {"source", "output"})
      check_gradients({{"attention", {{"reads", reads}, {"site", site}, {"rank", 2}}}, {"kv_heads", 1}});
}

// Every score function under a gate at the source, with a bias slot and shared values: all of attention at once.
TEST(ModelGradient, EveryScoreWithEveryPart) {
  for (const std::string& score : score_names())
    check_gradients(
        {{"attention", {{"type", "vga"}, {"site", "source"}, {"score", {{"type", score}}}, {"key_value_bias", true}}},
         {"kv_heads", 1},
         {"context", 5}});
}

// ---- the model around it -----------------------------------------------------------------------------------------

TEST(ModelGradient, TheModelsChoices) {
  for (const int heads : {1, 2})
    for (const char* position : {"learned", "rope", "none"})
      for (const bool tied : {false, true})
        check_gradients({{"heads", heads},
                         {"position", position},
                         {"tied_head", tied},
                         {"bias", heads == 1},
                         {"mlp", tied ? "relu" : "gelu"},
                         {"init", tied ? "gpt2" : "pytorch"},
                         {"init_std", 0.5}});
}

TEST(ModelGradient, EveryMlpAndNorm) {
  for (const char* mlp : {"relu", "gelu", "gelu_erf", "relu_squared", "swiglu"})
    for (const char* norm : {"layernorm", "rmsnorm"})
      check_gradients({{"mlp", mlp}, {"norm", norm}, {"qk_norm", norm[0] == 'l'}});
}

// What only published families have: see docs/transformers.md.
TEST(ModelGradient, PartsOfPublishedFamilies) {
  const Json llama3 = {{"type", "llama3"},
                       {"factor", 4.0},
                       {"low_freq_factor", 0.2},
                       {"high_freq_factor", 0.8},
                       {"original_context", 4}};
  for (const char* attention : {"softmax", "vga", "key_value_bias"}) {
    check_gradients({{"head_size", 10},
                     {"kv_heads", 1},
                     {"position", "rope"},
                     {"rope_theta", 10.0},
                     {"rope_scaling", llama3},
                     {"qk_norm", true},
                     {"attention", attention}});
    check_gradients(
        {{"parallel_residual", true}, {"position", "rope"}, {"rotary_features", 4}, {"attention", attention}});
    check_gradients({{"parallel_residual", true},
                     {"norm", "rmsnorm"},
                     {"mlp", "swiglu"},
                     {"tied_head", true},
                     {"attention", attention}});
  }
  for (const bool bias : {false, true})
    for (const char* attention_bias : {"none", "qkv", "all"})
      check_gradients({{"bias", bias}, {"attention_bias", attention_bias}});
}

TEST(ModelGradient, PackedDocuments) {
  for (const AttentionPreset& preset : attention_presets()) {
    SCOPED_TRACE(preset.name);
    const auto backend = make_cpu_backend();
    const ModelConfig config = small_model({{"attention", preset.name}, {"context", 6}});
    GradientCheck(*backend, config, 6, {0, 0, 0, 3, 3, 3, 0, 1, 1, 1, 1, 5}).run();
  }
}

// Positions beyond the sequence get a gradient of zero.
TEST(ModelGradient, ASequenceShorterThanTheContext) { check_gradients({{"context", 9}}, 4); }

}  // namespace
}  // namespace sluice
