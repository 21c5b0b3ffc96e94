// What a user may write for model.attention, and what it resolves to.
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/error_text.h"
#include "model/attention/cores/tiles_options.h"
#include "model/attention/stages/gate.h"
#include "model/config/config.h"

namespace sluice {
namespace {

ModelConfig parsed_model(const char* attention) {
  ModelConfig config;
  Fields fields;
  config.describe(fields);
  Json json = Json::object();
  json["attention"] = Json::parse(attention);
  fields.parse(json, "model");
  config.resolve();
  return config;
}

void resolve_norms(int64_t width, int64_t norm_gate) {
  ModelConfig config;
  Fields fields;
  config.describe(fields);
  fields.parse({{"width", width}, {"heads", 2}, {"norm_gate", norm_gate}}, "model");
  config.resolve();
}

// What one layer has.
struct Parsed {
  std::string type;
  ScoreConfig score;
  GateConfig gate;
};

Parsed parsed(const char* attention) {
  const AttentionConfig config = parsed_model(attention).attention.all;
  return {config.type, config.options<TilesOptions>().score, config.options<GateOptions>().gate};
}

std::string refusal(const char* attention) {
  return user_error_of([&] { parsed_model(attention); });
}

TEST(AttentionConfig, AffineWeightsRefuseAWindow) {
  const std::string text = refusal(R"({"type": "affine", "window": 4})");
  for (const char* named : {"model.attention.affine", "model.attention.window = 4"})
    EXPECT_NE(text.find(named), std::string::npos) << text;
}

TEST(AttentionConfig, APresetIsItsParts) {
  for (const AttentionPreset& preset : attention_presets()) {
    const AttentionConfig whole = parsed_model(("\"" + std::string(preset.name) + "\"").c_str()).attention.all;
    EXPECT_EQ(whole.core, Json::parse(preset.parts).value("core", "tiles")) << preset.name;
    if (whole.core != "tiles") continue;
    const Parsed config = parsed(("\"" + std::string(preset.name) + "\"").c_str());
    const Json parts = Json::parse(preset.parts);
    EXPECT_EQ(config.type, preset.name);
    if (parts.contains("score")) {
      EXPECT_EQ(config.score.type, parts["score"]["type"]) << preset.name;
    }
    EXPECT_EQ(config.gate.reads != GateReads::kNone, parts.contains("gate")) << preset.name;
  }
}

TEST(AttentionConfig, AConstantOfThePresetsScoreCanBeChanged) {
  const Parsed sigmoid = parsed(R"({"type": "sigmoid", "score": {"bias": -1}})");
  EXPECT_EQ(sigmoid.score.type, "sigmoid");
  EXPECT_EQ(sigmoid.score.of<Sigmoid>().bias, -1);
  EXPECT_EQ(parsed(R"({"type": "clipped_softmax", "score": {"alpha": 4}})").score.of<ClippedSoftmax>().alpha, 4);
  EXPECT_EQ(parsed(R"({"type": "softpick", "score": {"epsilon": 1e-6}})").score.of<Softpick>().epsilon, 1e-6);
  EXPECT_EQ(parsed(R"({"type": "sigmoid", "score": {}})").score.type, "sigmoid");
}

TEST(AttentionConfig, AnotherScoreReplacesThePresetsAndKeepsItsGate) {
  const Parsed config = parsed(R"({"type": "vga", "score": "sigmoid"})");
  EXPECT_EQ(config.score.type, "sigmoid");
  EXPECT_EQ(config.gate.reads, GateReads::kValue);
  EXPECT_EQ(parsed(R"({"type": "clipped_softmax", "score": {"type": "softmax"}})").score.type, "softmax");
}

TEST(AttentionConfig, ShortcutsReachTheGate) {
  const Parsed config = parsed(R"({"type": "vga", "site": "source", "gate": {"grain": "element"}})");
  EXPECT_EQ(config.gate.site, GateSite::kSource);
  EXPECT_EQ(config.gate.grain, GateGrain::kElement);
  EXPECT_EQ(config.gate.reads, GateReads::kValue);
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

TEST(AttentionConfig, AGateReadsResultsOnlyWhereTheyAre) {
  expect_contains(refusal(R"({"reads": "output", "site": "source"})"),
                  {"model.attention.gate.reads = output", "gate.site = output"});
  expect_contains(refusal(R"({"gate": {"reads": "hidden_and_output", "site": "source"}})"),
                  {"reads = hidden_and_output", "gate.site = output"});
  EXPECT_EQ(parsed(R"({"type": "gated_attention", "rank": 4})").gate.rank, 4);
  expect_contains(refusal(R"({"type": "gated_attention", "gate": {"rank_bias": true}})"),
                  {"model.attention.gate.rank_bias", "rank is 0"});
  EXPECT_EQ(parsed(R"({"type": "gated_sdpa", "rank": 4})").gate.rank, 4);
  expect_contains(refusal(R"({"type": "gated_sdpa", "rank": 4097})"),
                  {"model.attention.gate.rank = 4097", "model.width = "});
}

TEST(ModelConfigRanks, OfNormsAreAtMostTheWidth) {
  EXPECT_EQ(user_error_of([] { resolve_norms(12, 12); }), "");
  expect_contains(user_error_of([] { resolve_norms(12, 13); }), {"model.norm_gate = 13", "model.width = 12"});
}

TEST(AttentionConfig, AGateMayBeTheProductOfTwo) {
  const Parsed hyga = parsed(R"("hyga")");
  EXPECT_EQ(hyga.gate.reads, GateReads::kHiddenAndOutputHead);
  EXPECT_EQ(hyga.gate.rank, 8);
  EXPECT_EQ(hyga.gate.second.reads, GateReads::kOutput);
  EXPECT_EQ(hyga.gate.second.grain, GateGrain::kHead);
  expect_contains(refusal(R"({"gate": {"second": {"reads": "hidden"}}})"),
                  {"model.attention.gate.second applies only when", "model.attention.gate.reads is"});
  expect_contains(refusal(R"({"reads": "value", "gate": {"second": {"grain": "element"}}})"),
                  {"model.attention.gate.second.grain applies only when"});
  expect_contains(refusal(R"({"type": "hyga", "gate": {"second": {"reads": "hidden", "rank": 4097}}})"),
                  {"model.attention.gate.second.rank = 4097 is more than model.width = "});
  expect_contains(refusal(R"({"type": "vga", "site": "source", "gate": {"second": {"reads": "output"}}})"),
                  {"model.attention.gate.second.reads = output", "gate.site = output"});
  expect_contains(parsed_model(R"("hyga")").attention.all.text(),
                  {"reads hidden_and_output_head", "of rank 8 a head", "times one that reads output, one a head"});
}

// Configs, checkpoints and exported folders of before stay as they are.
TEST(AttentionConfig, PartsThatAModelDoesNotHaveLeaveNoTrace) {
  ModelConfig config = parsed_model(R"("vga")");
  Fields fields;
  config.describe(fields);
  const Json dump = fields.dump()["attention"];
  EXPECT_EQ(dump.dump(), R"({"type":"vga","score":{"type":"softmax"},"key_bias":false,"key_value_bias":false,)"
                         R"("gate":{"reads":"value","site":"output","grain":"head","bias":false,"opening":0.5}})");
}

// ---- a pattern over the layers -------------------------------------------------------------------------------------------

std::vector<std::string> types_of(const ModelConfig& config) {
  std::vector<std::string> out;
  for (int64_t layer = 0; layer < config.layers; ++layer) out.push_back(config.attention.of(layer).type);
  return out;
}

TEST(AttentionPattern, IsLaidOverTheLayersAgainAndAgain) {
  const ModelConfig config = parsed_model(R"(["vga", {"type": "softmax", "repeat": 3}, {"key_bias": true}])");
  const std::vector<std::string> once = {"vga", "softmax", "softmax", "softmax", "custom"};
  std::vector<std::string> want;
  for (size_t layer = 0; layer < 12; ++layer) want.push_back(once[layer % 5]);
  EXPECT_EQ(types_of(config), want);
  EXPECT_EQ(config.attention.name(), "vga, softmax*3, custom");
  EXPECT_TRUE(config.attention.of(4).options<TilesOptions>().key_bias);
}

Json stored(const char* attention) {
  ModelConfig config = parsed_model(attention);
  Fields fields;
  config.describe(fields);
  return fields.dump()["attention"];
}

// A part that is not there is not written, and a preset's name must not bring it back.
TEST(AttentionConfig, APresetWithoutOneOfItsPartsIsStoredAsWhatItIs) {
  for (const char* attention :
       {R"({"type": "threshold", "unit_length": false})", R"({"type": "diff_v1", "output_norm": "none"})",
        R"({"type": "output_norm", "output_norm": "none"})", R"({"type": "value_residual", "value_residual": "none"})",
        R"({"type": "affine", "affine": "none"})", R"({"type": "diff_v2", "difference": {"lambda": "none"}})",
        R"({"type": "hyga", "rank": 0})", R"({"type": "hyga", "gate": {"second": {"reads": "none"}}})",
        R"({"type": "key_only", "core": "tiles"})", R"([{"type": "affine", "affine": "none"}, "vga"])"}) {
    const Json once = stored(attention);
    const Json& first = once.is_array() ? once[0] : once;
    EXPECT_EQ(first["type"], "custom") << attention;
    EXPECT_EQ(stored(once.dump().c_str()), once) << attention;
  }
  for (const AttentionPreset& preset : attention_presets()) {
    const Json once = stored(Json(preset.name).dump().c_str());
    EXPECT_EQ(once["type"], preset.name);
    EXPECT_EQ(stored(once.dump().c_str()), once) << preset.name;
  }
  EXPECT_EQ(stored(R"({"type": "diff_v1", "difference": {"signal": 1}, "reads": "value"})")["type"], "diff_v1");
}

TEST(AttentionConfig, SaysWhatIsChangedOfAPreset) {
  const auto changes = [](const char* attention) { return parsed_model(attention).attention.changes(); };
  for (const AttentionPreset& preset : attention_presets())
    EXPECT_EQ(changes(Json(preset.name).dump().c_str()), "") << preset.name;
  EXPECT_EQ(changes(R"(["vga", {"type": "softmax", "repeat": 3}])"), "");
  EXPECT_EQ(changes(R"({"type": "softmax", "window": 8})"), "score softmax, a window of 8 keys");
  expect_contains(changes(R"({"type": "vga", "site": "source"})"),
                  {"score softmax", "gate: reads value, acts at the source"});
  EXPECT_EQ(changes(R"(["vga", {"type": "sink_logit", "window": 8}, "relu", {"type": "sink_logit", "window": 8}])"),
            "sink_logit: score sink_logit, a window of 8 keys");
  EXPECT_EQ(changes(R"({"key_bias": true})"), "score softmax, a learned key more");
}

TEST(AttentionPattern, IsDumpedResolvedAndReadsBack) {
  ModelConfig config =
      parsed_model(R"(["vga", {"site": "source", "reads": "hidden", "repeat": 2, "score": "sigmoid"}])");
  Fields fields;
  config.describe(fields);
  const Json dump = fields.dump()["attention"];
  ASSERT_TRUE(dump.is_array());
  EXPECT_EQ(dump[0]["repeat"], 1);
  EXPECT_EQ(dump[0]["gate"]["reads"], "value");
  EXPECT_EQ(dump[1]["gate"]["site"], "source");
  EXPECT_EQ(dump[1]["score"]["type"], "sigmoid");
  ModelConfig again = parsed_model(dump.dump().c_str());
  Fields fields_again;
  again.describe(fields_again);
  EXPECT_EQ(fields_again.dump()["attention"].dump(), dump.dump());
}

TEST(AttentionPattern, OfOneElementIsThatOfAllLayers) {
  EXPECT_EQ(types_of(parsed_model(R"(["vga"])")), std::vector<std::string>(12, "vga"));
}

TEST(AttentionPattern, NonsenseIsRefusedWithItsPlace) {
  expect_contains(refusal(R"([])"), {"model.attention is a list of 0 elements"});
  expect_contains(refusal(R"(["vga", "vgaa"])"), {"model.attention[1]", "\"vgaa\"", "did you mean \"vga\"?"});
  expect_contains(refusal(R"(["vga", {"type": "softmax", "site": "source"}])"),
                  {"model.attention[1].gate.site applies only"});
  expect_contains(refusal(R"([{"type": "vga", "repeats": 2}])"),
                  {"unknown config key model.attention[0].repeats", "did you mean model.attention[0].repeat?"});
  expect_contains(refusal(R"([{"repeat": 0}])"), {"model.attention[0].repeat is 0"});
  expect_contains(refusal(R"(["vga", 3])"), {"model.attention[1] must be an object, got the number 3"});
  expect_contains(refusal(R"({"type": "vga", "repeat": 2})"), {"unknown config key model.attention.repeat"});
  expect_contains(refusal(R"(["relu", {"key_bias": true, "score": "relu"}])"),
                  {"model.attention[1].key_bias does nothing"});
  expect_contains(refusal(R"([{"type": "vga", "repeat": 12}, "softmax"])"),
                  {"model.attention[1] would begin at layer 12, but model.layers = 12 are taken"});
}

}  // namespace
}  // namespace sluice
