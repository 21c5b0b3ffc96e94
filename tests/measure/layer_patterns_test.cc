// Instruments where layers differ, and where a layer's attention has no weights: figures are those of the layers that
// have them, and what is not there is absent and told, not zero.
#include <gtest/gtest.h>

#include "base/error_text.h"
#include "data/sources/random_tokens.h"
#include "measure/analysis_table.h"
#include "measure/analyzer.h"
#include "measure/probe.h"
#include "model/foreign_parts.h"
#include "model/parity.h"

namespace sluice {
namespace {

constexpr int64_t kVocab = 13, kContext = 12;

class LayerPatterns : public testing::Test {
 protected:
  std::unique_ptr<Transformer> make_model(const Json& attention) {
    const Json json = {{"vocab_size", kVocab}, {"context", kContext}, {"layers", 2},
                       {"heads", 2},           {"width", 16},         {"attention", attention}};
    auto model =
        std::make_unique<Transformer>(*backend_, parity::model_config(json), TransformerOptions{.max_batch = 3});
    model->initialise(5);
    return model;
  }
  Analysis analyse(const Json& attention) {
    const auto model = make_model(attention);
    return Analyzer(*model, source_, {.sequences = 4, .map_positions = 6}).run(7);
  }

  const ListedCore core_{foreign::running_sum()};
  const ListedStage stage_{foreign::pair_difference()};
  std::unique_ptr<Backend> backend_ = make_cpu_backend();
  RandomTokens source_{Split::kHeldOut, kContext, kVocab, 3};
};

const Json& figures(const Json& analysis, int64_t layer, int64_t head) {
  return analysis["heads"][size_t(2 * layer + head)];
}

TEST_F(LayerPatterns, HeadsHaveTheFiguresOfTheirLayer) {
  const Analysis analysis = analyse({"vga", "key_bias"});
  const Json json = analysis.json();
  EXPECT_EQ(json["attention"], "vga, key_bias");
  for (const int64_t head : {0, 1}) {
    EXPECT_TRUE(figures(json, 0, head).contains("gate_mean"));
    EXPECT_TRUE(figures(json, 0, head).contains("gate_gradient_ratio"));
    EXPECT_FALSE(figures(json, 0, head).contains("bias_share"));
    EXPECT_FALSE(figures(json, 1, head).contains("gate_mean"));
    EXPECT_FALSE(figures(json, 1, head).contains("gate_gradient_ratio"));
    EXPECT_TRUE(figures(json, 1, head).contains("bias_share"));
  }
  EXPECT_FALSE(json.contains("layers_without_weights"));
  EXPECT_EQ(json["curves"][0].contains("gate"), true);
  EXPECT_EQ(json["curves"][2].contains("gate"), false);
}

// The model's figure is the mean of the heads that have it: two here, and not four.
TEST_F(LayerPatterns, TheModelsFigureIsOfTheHeadsThatHaveIt) {
  const Json json = analyse({"softmax", "vga"}).json();
  const double mean =
      (figures(json, 1, 0)["gate_mean"].get<double>() + figures(json, 1, 1)["gate_mean"].get<double>()) / 2;
  EXPECT_NEAR(json["summary"]["gate_mean"].get<double>(), mean, 1e-12);
  EXPECT_GT(mean, 0.1);
}

TEST_F(LayerPatterns, ALayerWithoutWeightsHasNoFigureOfThem) {
  const Analysis analysis = analyse({{{"core", "running_sum"}}, "softmax"});
  const Json json = analysis.json();
  EXPECT_EQ(json["layers_without_weights"], Json({0}));
  for (const char* key : {"sink_rates", "sink_rate", "first_token_share", "entropy", "attention_mass_ratio",
                          "value_gradient_per_mass", "value_norm_ratio_largest", "later_sink_share",
                          "sinks_per_sequence", "concentration", "local_focus_0", "local_focus_3"}) {
    EXPECT_FALSE(figures(json, 0, 1).contains(key)) << key;
    EXPECT_TRUE(figures(json, 1, 1).contains(key)) << key;
  }
  for (const char* key : {"value_norm_ratio", "value_gradient_ratio", "stable_rank"})
    EXPECT_TRUE(figures(json, 0, 1)[key].is_number()) << key;
  EXPECT_FALSE(json["layers"][0].contains("head_diversity"));
  EXPECT_EQ(json["summary"]["head_diversity"], json["layers"][1]["head_diversity"]);
  for (const char* key : {"secondary_sink_share", "input_gradient_ratio", "mlp_sum_infinity_norm"})
    EXPECT_TRUE(json["layers"][0][key].is_number()) << key;
  EXPECT_FALSE(json["curves"][0].contains("attention"));
  EXPECT_FALSE(json["curves"][0].contains("map"));
  const double share = (figures(json, 1, 0)["first_token_share"].get<double>() +
                        figures(json, 1, 1)["first_token_share"].get<double>()) /
                       2;
  EXPECT_NEAR(json["summary"]["first_token_share"].get<double>(), share, 1e-12);
  expect_contains(analysis_text({analysis}, 200), {"layers 0 have no attention weights"});
}

TEST_F(LayerPatterns, AModelWithoutWeightsHasNoneAtAll) {
  for (const Json& attention : {Json{{"core", "running_sum"}}, Json{{"pair_difference", true}}}) {
    const Analysis analysis = analyse(attention);
    const Json json = analysis.json();
    EXPECT_EQ(json["layers_without_weights"], Json({0, 1}));
    for (const char* key : {"sink_rate", "sink_rate_later", "head_diversity", "concentration", "sinks_per_sequence"})
      EXPECT_FALSE(json["summary"].contains(key)) << key;
    EXPECT_FALSE(json.contains("sink_rates"));
    EXPECT_TRUE(json["summary"]["value_norm_ratio"].is_number());
    for (const Json& line : analysis.lines()) EXPECT_FALSE(line.contains("sink_rates")) << line.dump();
    const std::string text = analysis_text({analysis}, 200);
    EXPECT_EQ(text.find("sinks above"), std::string::npos) << text;
  }
}

// A gate on twice the heads is none on heads of the model.
TEST_F(LayerPatterns, OpeningsAreOfTheModelsHeads) {
  const Json json = analyse({{"type", "vga"}, {"pair_difference", true}}).json();
  EXPECT_FALSE(json["summary"].contains("gate_mean"));
  EXPECT_TRUE(json["summary"]["gate_gradient_ratio"].is_number()) << "the gate reads the values all the same";
}

TEST_F(LayerPatterns, ProbesAndMapsAreOfTheLayersThatHaveThem) {
  const auto model = make_model({{{"core", "running_sum"}}, "vga"});
  Prober prober(*model, source_, 3);
  for (const Json& line : prober.run().lines(4)) {
    if (line["kind"] == "gate") {
      EXPECT_EQ(line["layer"], 1);
      continue;
    }
    ASSERT_EQ(line["kind"], "probe");
    const bool weights = line["layer"] == 1;
    for (const char* key : {"sink_attention", "sink_logit_gap", "sink_logit_gap_queries"})
      EXPECT_EQ(line.contains(key), weights) << line.dump();
    EXPECT_GT(line["value_norm_rest"].get<double>(), 0);
  }
  const Json snapshot = prober.attention_map(4, 5);
  ASSERT_EQ(snapshot["maps"].size(), 2u);
  for (const Json& map : snapshot["maps"]) {
    EXPECT_EQ(map["layer"], 1);
    EXPECT_EQ(map["weights"].size(), 5u);
    EXPECT_EQ(map["gate"].size(), 5u);
  }
}

}  // namespace
}  // namespace sluice
