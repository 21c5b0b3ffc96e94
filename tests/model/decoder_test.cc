// Decoding (decoder_check.h) for every attention variant and the model's other choices.
#include "model/decoder_check.h"

namespace sluice {
namespace {

using namespace parity;
using namespace parity::decoding;

TEST(Decoder, EveryPreset) {
  for (const AttentionPreset& preset : attention_presets())
    for (const int kv_heads : {2, 1}) check_decoding({{"attention", preset.name}, {"kv_heads", kv_heads}});
}

TEST(Decoder, EveryGate) {
  for (const char* reads : {"hidden", "hidden_head", "value"})
    for (const char* site : {"source", "output"})
      for (const char* grain : {"head", "element"})
        check_decoding({{"attention", {{"gate", {{"reads", reads}, {"site", site}, {"grain", grain}}}}}});
}

TEST(Decoder, GatesOfOutputsAndOfLowRank) {
  for (const char* reads : {"hidden", "value", "output", "hidden_and_output"})
    for (const int rank : {0, 3})
      check_decoding({{"attention", {{"gate", {{"reads", reads}, {"grain", "element"}, {"rank", rank}}}}}});
}

TEST(Decoder, NormsWithGates) { check_decoding({{"norm", "rmsnorm"}, {"norm_gate", 3}, {"parallel_residual", true}}); }

TEST(Decoder, TheModelsChoices) {
  for (const char* position : {"learned", "rope", "none"})
    check_decoding({{"position", position}, {"attention", "vga"}});
  for (const char* position : {"rope", "none"})
    check_decoding({{"position", position}, {"qk_norm", true}, {"kv_heads", 1}});
  for (const char* mlp : {"relu", "relu_squared", "swiglu"})
    check_decoding({{"mlp", mlp}, {"norm", "rmsnorm"}, {"tied_head", true}, {"position", "rope"}, {"kv_heads", 1}});
}

TEST(Decoder, PartsOfPublishedFamilies) {
  const Json llama3 = {{"type", "llama3"}, {"factor", 4.0}, {"original_context", 32}};
  check_decoding({{"head_size", 12},
                  {"kv_heads", 1},
                  {"position", "rope"},
                  {"rope_scaling", llama3},
                  {"attention_bias", "qkv"},
                  {"bias", false}});
  check_decoding({{"parallel_residual", true}, {"position", "rope"}, {"rotary_features", 4}, {"mlp", "gelu_erf"}});
}

TEST(Decoder, StartsAnewAndEndsAtTheContext) {
  const auto backend = make_cpu_backend();
  Transformer model = make_model(*backend, tiny_model(Json::object()), DType::kF32);
  const std::vector<int32_t> tokens = random_tokens();
  Decoder decoder(model, kBatch);
  const Values first = values_of(decoder.prefill(columns(tokens, 0, kPrompt).data(), kPrompt));
  (void)decoder.prefill(tokens.data(), kContext);
  EXPECT_THROW(decoder.step(tokens.data()), std::logic_error);
  EXPECT_EQ(values_of(decoder.prefill(columns(tokens, 0, kPrompt).data(), kPrompt)), first);
  EXPECT_EQ(decoder.length(), kPrompt);
}

}  // namespace
}  // namespace sluice
