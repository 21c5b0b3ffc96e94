// Every core and every stage in the lists of attention_parts.h, by the example that its entry gives, alone and with the
// others: gradients, recomputation, decoding. Three parts that stand in no list of the project's (foreign_parts.h) are
// tested with them: what a part needs it gets without another file's knowing it.
#include <gtest/gtest.h>

#include "base/error_text.h"
#include "model/attention/stages/gate.h"
#include "model/decoder_check.h"
#include "model/foreign_state.h"
#include "model/gradient_check.h"

namespace sluice {
namespace {

using namespace parity;

class AttentionParts : public testing::Test {
 protected:
  const ListedCore core_{foreign::running_sum()};
  const ListedStage stage_{foreign::pair_difference()}, other_stage_{foreign::centred_values()};
};

void lay_over(Json& config, const Json& more) {
  for (const auto& [key, value] : more.items()) {
    if (value.is_object() && config.contains(key)) config[key].update(value);
    else config[key] = value;
  }
}

// What a model says to have this core and these stages, and what `more` says; nothing where they do not go together.
std::optional<Json> model_with(const CorePart& core, const std::vector<StagePart>& stages, const Json& more) {
  Json changes = Json::parse(core.example);
  for (const StagePart& stage : stages) lay_over(changes, Json::parse(stage.example));
  if (changes.contains("attention") && changes["attention"].is_string() && more.contains("attention"))
    changes["attention"] = {{"type", changes["attention"]}};
  lay_over(changes, more);
  if (!user_error_of([&] { gradients::small_model(changes); }).empty()) return std::nullopt;
  return changes;
}

// What models may have beside a core and stages.
const Json kRegisters = {{"registers", 2}}, kNormGates = {{"norm_gate", 3}};
const Json kAll = {{"registers", 2}, {"norm_gate", 3}, {"attention", {{"window", 3}}}};

// Calls check(changes): each core alone, with each stage, and with all stages; these with registers, and with gated
// norms; the first core, which knows windows, with one and both of these, alone and with each stage.
template <class Check>
void for_each_combination(Check check) {
  std::map<std::string, int64_t> refused;
  const auto use = [&](const CorePart& core, const std::vector<StagePart>& stages, const Json& more = Json::object()) {
    const std::optional<Json> changes = model_with(core, stages, more);
    if (!changes) return void(++refused[core.name]);
    SCOPED_TRACE(changes->dump());
    check(*changes);
  };
  for (const CorePart& core : attention_cores()) {
    use(core, {});
    for (const StagePart& stage : attention_stages()) use(core, {stage});
    use(core, attention_stages());
    for (const Json& more : {kRegisters, kNormGates}) use(core, {}, more), use(core, attention_stages(), more);
  }
  const CorePart& first = attention_cores().front();
  use(first, {}, kAll);
  for (const StagePart& stage : attention_stages()) use(first, {stage}, kAll);
  // running_sum refuses qk_norm, flow rope, each with that stage alone and three times among all; affine a window. A
  // core without heads goes with stages that the model asks for, by no key of model.attention.
  const auto of_attention = std::count_if(attention_stages().begin(), attention_stages().end(),
                                          [](const StagePart& stage) { return stage.options != nullptr; });
  for (const CorePart& core : attention_cores())
    EXPECT_EQ(refused[core.name], !core.has_heads()                         ? of_attention + 3
                                  : core.name == std::string("running_sum") ? 4
                                  : core.name == std::string("flow")        ? 4
                                  : core.name == std::string("tiles")       ? 1
                                                                            : 0)
        << core.name;
}

TEST_F(AttentionParts, HaveTheGradientsThatTheirLossesSay) {
  for_each_combination([](Json changes) {
    gradients::check_gradients(changes);
    changes["kv_heads"] = 1;
    gradients::check_gradients(changes);
  });
}

TEST_F(AttentionParts, KeepDocumentsApart) {
  for_each_combination([](Json changes) {
    if (changes.contains("registers")) return;  // before a sequence of one document
    changes["context"] = 6;
    const auto backend = make_cpu_backend();
    gradients::GradientCheck(*backend, gradients::small_model(changes), 6, {0, 0, 0, 3, 3, 3, 0, 1, 1, 1, 1, 5}).run();
  });
}

TEST_F(AttentionParts, DecodeWhatTheyCompute) {
  for_each_combination([](const Json& changes) { decoding::check_decoding(changes, {DType::kF32}); });
}

TEST_F(AttentionParts, AreTheSameBitsWhenTheyRunAgain) {
  for_each_combination([](Json changes) {
    changes["context"] = 7;
    const ModelConfig config = gradients::small_model(changes);
    const auto want = gradients::bits_of_step(config, Recompute::kNone);
    EXPECT_EQ(gradients::bits_of_step(config, Recompute::kMlp), want);
    EXPECT_EQ(gradients::bits_of_step(config, Recompute::kBlock), want);
  });
}

TEST_F(AttentionParts, LeaveNoTraceInTheConfigOfAModelWithoutThem) {
  ModelConfig config = gradients::small_model({{"attention", "vga"}});
  Fields fields;
  config.describe(fields);
  const Json dump = fields.dump()["attention"];
  for (const char* key : {"core", "sum_scale", "pair_difference", "centred_values"})
    EXPECT_FALSE(dump.contains(key)) << key;
  EXPECT_EQ(config.attention.all.part_without_python(), "");
}

TEST_F(AttentionParts, HaveTheirKeysInModelAttentionAndNoOthers) {
  const ModelConfig config = gradients::small_model({{"attention", {{"core", "running_sum"}, {"sum_scale", 2.0}}}});
  EXPECT_EQ(config.attention.all.options<foreign::RunningSumOptions>().scale, 2);
  EXPECT_EQ(config.attention.all.part_without_python(), "running_sum");
  const auto refusal = [](const Json& attention) {
    return user_error_of([&] { gradients::small_model({{"attention", attention}}); });
  };
  expect_contains(refusal({{"sum_scale", 2.0}}),
                  {"model.attention.sum_scale applies only when model.attention.core is", "running_sum"});
  expect_contains(refusal({{"core", "running_sum"}, {"score", "relu"}}),
                  {"model.attention.score applies only when", "\"tiles\""});
  expect_contains(refusal({{"core", "tile"}}), {"model.attention.core is \"tile\"", "did you mean \"tiles\"?"});
}

TEST_F(AttentionParts, ProjectTheHeadsThatAStageAsksFor) {
  const auto backend = make_cpu_backend();
  const auto qkv = [&](const Json& attention) {
    const Transformer model(*backend, gradients::small_model({{"attention", attention}, {"kv_heads", 1}}),
                            {.allocate = false});
    const ParamId id = model.params().find("blocks.0.attention.qkv.weight");
    return model.params().specs()[size_t(id.index)].shape[0];
  };
  EXPECT_EQ(qkv({{"type", "softmax"}}), (2 + 1 + 1) * 6);
  EXPECT_EQ(qkv({{"pair_difference", true}}), (4 + 1 + 1) * 6);
}

// Values wider or narrower than keys, with everything that works on values or on what is made of them.
TEST_F(AttentionParts, MayHaveValuesOfAnotherWidthThanKeys) {
  for (const int64_t D_v : {12, 4})
    for (const Json& attention :
         {Json("key_value_bias"), Json("relu"), Json::parse(R"({"type": "vga", "key_bias": true})"),
          Json::parse(R"({"type": "vga", "site": "source", "grain": "element"})"),
          Json::parse(R"({"type": "input_gated", "exclude_self": true})")}) {
      const Json changes = {{"value_head_size", D_v}, {"kv_heads", 1}, {"position", "rope"}, {"attention", attention}};
      SCOPED_TRACE(changes.dump());
      gradients::check_gradients(changes);
      decoding::check_decoding(changes);
    }
}

TEST_F(AttentionParts, OfTilesSayHowWideAHeadMayBe) {
  const ListedStage wide(foreign::wide_values());
  const auto backend = make_cpu_backend();
  expect_contains(
      user_error_of([&] {
        Transformer(*backend, gradients::small_model({{"attention", {{"wide_values", 50}}}}), {.allocate = false});
      }),
      {"model.attention.core = tiles takes heads of at most 256 features", "a query has 6", "a value 300"});
}

// Layers of different kinds, in turn.
TEST_F(AttentionParts, MayDifferFromLayerToLayer) {
  for (const Json& attention :
       {Json::parse(R"(["vga", "softmax"])"), Json::parse(R"([{"core": "running_sum"}, {"type": "relu"}])"),
        Json::parse(R"(["key_value_bias", {"type": "vga", "site": "source", "pair_difference": true}])")}) {
    gradients::check_gradients({{"attention", attention}, {"layers", 3}});
    decoding::check_decoding({{"attention", attention}, {"layers", 3}}, {DType::kF32});
    const ModelConfig config = gradients::small_model({{"attention", attention}, {"layers", 3}, {"qk_norm", false}});
    EXPECT_EQ(gradients::bits_of_step(config, Recompute::kBlock), gradients::bits_of_step(config, Recompute::kNone));
  }
}

// A layer of a pattern starts with the weights that it has where all layers are of its kind.
TEST_F(AttentionParts, StartEqualInAPatternAndAlone) {
  const auto backend = make_cpu_backend();
  const auto weights = [&](const Json& attention) {
    Transformer model(*backend, gradients::small_model({{"attention", attention}}), {});
    model.initialise(5);
    std::map<std::string, Values> out;
    for (const ParamSpec& spec : model.params().specs()) out[spec.name] = parameter(model, spec.name);
    return out;
  };
  const auto mixed = weights({"vga", "sink_logit"}), vga = weights("vga"), sink = weights("sink_logit");
  for (const auto& [name, values] : mixed)
    EXPECT_EQ(values, (name.starts_with("blocks.1.") ? sink : vga).at(name)) << name;
  EXPECT_TRUE(mixed.contains("blocks.0.attention.gate.weight"));
  EXPECT_FALSE(mixed.contains("blocks.1.attention.gate.weight"));
  EXPECT_TRUE(mixed.contains("blocks.1.attention.sink_logit"));
}

}  // namespace
}  // namespace sluice
