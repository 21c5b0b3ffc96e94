// What a user may write for model.attention, and what it resolves to.
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/config.h"

namespace sluice {
namespace {

AttentionConfig parsed(const char* attention) {
  ModelConfig config;
  Fields fields;
  config.describe(fields);
  Json json = Json::object();
  json["attention"] = Json::parse(attention);
  fields.parse(json, "model");
  config.resolve();
  return config.attention;
}

TEST(AttentionConfig, APresetIsItsParts) {
  for (const AttentionPreset& preset : attention_presets()) {
    const AttentionConfig config = parsed(("\"" + std::string(preset.name) + "\"").c_str());
    const Json parts = Json::parse(preset.parts);
    EXPECT_EQ(config.type, preset.name);
    if (parts.contains("score")) { EXPECT_EQ(config.score.type, parts["score"]["type"]) << preset.name; }
    EXPECT_EQ(config.gate.present(), parts.contains("gate")) << preset.name;
  }
}

TEST(AttentionConfig, AConstantOfThePresetsScoreCanBeChanged) {
  const AttentionConfig sigmoid = parsed(R"({"type": "sigmoid", "score": {"bias": -1}})");
  EXPECT_EQ(sigmoid.score.type, "sigmoid");
  EXPECT_EQ(sigmoid.score.of<Sigmoid>().bias, -1);
  EXPECT_EQ(parsed(R"({"type": "clipped_softmax", "score": {"alpha": 4}})").score.of<ClippedSoftmax>().alpha, 4);
  EXPECT_EQ(parsed(R"({"type": "softpick", "score": {"epsilon": 1e-6}})").score.of<Softpick>().epsilon, 1e-6);
  EXPECT_EQ(parsed(R"({"type": "sigmoid", "score": {}})").score.type, "sigmoid");
}

TEST(AttentionConfig, AnotherScoreReplacesThePresetsAndKeepsItsGate) {
  const AttentionConfig config = parsed(R"({"type": "vga", "score": "sigmoid"})");
  EXPECT_EQ(config.score.type, "sigmoid");
  EXPECT_EQ(config.gate.reads, "value");
  EXPECT_EQ(parsed(R"({"type": "clipped_softmax", "score": {"type": "softmax"}})").score.type, "softmax");
}

TEST(AttentionConfig, ShortcutsReachTheGate) {
  const AttentionConfig config = parsed(R"({"type": "vga", "site": "source", "gate": {"grain": "element"}})");
  EXPECT_EQ(config.gate.site, "source");
  EXPECT_EQ(config.gate.grain, "element");
  EXPECT_EQ(config.gate.reads, "value");
}

TEST(AttentionConfig, NonsenseIsRefused) {
  EXPECT_THROW(parsed(R"("vgaa")"), UserError);
  EXPECT_THROW(parsed(R"({"type": "softmax", "site": "source"})"), UserError);
  EXPECT_THROW(parsed(R"({"type": "softmax", "score": {"bias": 1}})"), UserError);
  EXPECT_THROW(parsed(R"({"key_bias": true, "key_value_bias": true})"), UserError);
  ScoreFunctions::for_each([](auto score) {
    const Json attention = {{"key_bias", true}, {"score", {{"type", score.kName}}}};
    if (score.kNormalised) EXPECT_NO_THROW(parsed(attention.dump().c_str())) << score.kName;
    else EXPECT_THROW(parsed(attention.dump().c_str()), UserError) << score.kName;
  });
}

}  // namespace
}  // namespace sluice
