// Figures of layers on models whose numbers are known: two features, which a LayerNorm brings to 1 and -1, and
// sequences of one token.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "measure/analysis_table.h"
#include "measure/analyzer.h"
#include "model/parity.h"

namespace sluice {
namespace {

constexpr int64_t kT = 6;

// Sequences of token 1, or of 0 and 1 in turn.
class FewTokens final : public DataSource {
 public:
  explicit FewTokens(int64_t kinds) : DataSource(kT), kinds_(kinds) {}
  void fill(int64_t /*first*/, int64_t count, int32_t* inputs, int32_t* targets) const override {
    for (int64_t i = 0; i < count * kT; ++i) inputs[i] = targets[i] = int32_t(kinds_ == 1 ? 1 : i % 2);
  }
  int64_t vocab_size_needed() const override { return 2; }
  std::string describe() const override { return "few tokens"; }
  std::string identity() const override { return "few tokens"; }

 private:
  int64_t kinds_;
};

class LayerFigures : public testing::Test {
 protected:
  void make_model(const Json& attention, int64_t width = 2, int64_t heads = 1) {
    const ModelConfig config = parity::model_config({{"vocab_size", 2},
                                                     {"context", kT},
                                                     {"layers", 1},
                                                     {"heads", heads},
                                                     {"width", width},
                                                     {"mlp_width", 4},
                                                     {"position", "rope"},
                                                     {"bias", true},
                                                     {"norm_epsilon", 1e-12},
                                                     {"attention", attention}});
    model_ = std::make_unique<Transformer>(*backend_, config, TransformerOptions{.act = DType::kF64, .max_batch = 3});
    model_->initialise(5);
  }
  void set(const std::string& name, const parity::Values& values) {
    parity::assign(model_->params().value(parity::named(*model_, name)), values);
    model_->params().refresh_compute_copy(*backend_);
  }
  parity::Values zeros(const std::string& name) { return parity::Values(parity::parameter(*model_, name).size()); }
  Analysis analyse(const DataSource& source) {
    AnalysisOptions options;
    options.sequences = 5;
    return Analyzer(*model_, source, options).run(0);
  }

  std::unique_ptr<Backend> backend_ = make_cpu_backend();
  std::unique_ptr<Transformer> model_;
};

// Norms give (1, -1) or (-1, 1), tokens 0 and 1 both; attention puts out nothing, the MLP (3, -2).
TEST_F(LayerFigures, OfNormsMlpAndTheirSum) {
  make_model("softmax");
  set("embedding.token.weight", {5, 1, 1, 4});
  for (const char* name :
       {"blocks.0.attention.output.weight", "blocks.0.attention.output.bias", "blocks.0.mlp.down.weight"})
    set(name, zeros(name));
  set("blocks.0.mlp.down.bias", {3, -2});
  const Analysis analysis = analyse(FewTokens(2));
  const LayerAnalysis& layer = analysis.layers[0];
  for (const char* key :
       {"norm1_infinity_norm", "norm2_infinity_norm", "norm1_kurtosis", "norm2_kurtosis", "mlp_output_kurtosis"})
    EXPECT_NEAR(layer[key], 1, 1e-6) << key;
  EXPECT_NEAR(layer["mlp_output_infinity_norm"], 3, 1e-6);
  EXPECT_NEAR(layer["mlp_sum_infinity_norm"], 4, 1e-6);
  // 4, -3, 2, -1: a mean of 0.5; differences 3.5, 3.5, 1.5, 1.5.
  const double squares = (12.25 + 2.25) / 2, fourths = (12.25 * 12.25 + 2.25 * 2.25) / 2;
  EXPECT_NEAR(layer["mlp_sum_kurtosis"], fourths / (squares * squares), 1e-6);
  EXPECT_NEAR(analysis["max_io_norm"], 4, 1e-6);
  // The block's output: (8, -1) and (4, 2). The final norm's: 1 and -1.
  EXPECT_NEAR(analysis["tensors_infinity_norm"], 8, 1e-6);
  EXPECT_NEAR(analysis["norms_kurtosis"], 1, 1e-6);
  EXPECT_EQ(analysis.heads[0]["stable_rank"], 0) << "it adds nothing";
  EXPECT_EQ(layer["head_diversity"], 0) << "there is one head";
}

// All rows are alike, and so are the gradients of what attention puts out; weights are uniform. Position j gets the
// part 1/(i + 1) of the gradient of every row i >= j.
TEST_F(LayerFigures, TheGradientAtTheNormIsInProportionToTheAttention) {
  make_model("softmax", 4);
  parity::Values qkv = parity::parameter(*model_, "blocks.0.attention.qkv.weight");
  std::fill_n(qkv.begin(), 4 * 4, 0);  // no queries, no scores
  set("blocks.0.attention.qkv.weight", qkv);
  set("blocks.0.attention.qkv.bias", parity::Values(12));
  const Analysis analysis = analyse(FewTokens(1));
  double harmonic = 0;
  for (int64_t i = 0; i < kT; ++i) harmonic += 1.0 / double(i + 1);
  const double ratio = harmonic / ((double(kT) - harmonic) / double(kT - 1));
  EXPECT_NEAR(analysis.layers[0]["input_gradient_ratio"], ratio, 1e-6);
  EXPECT_NEAR(analysis["gradient_sink_ratio"], ratio, 1e-6);
  EXPECT_NEAR(analysis.layers[0]["input_gradient_first"] / analysis.layers[0]["input_gradient_rest"], ratio, 1e-6);
  EXPECT_GT(analysis.layers[0]["input_gradient_rest"], 0);
  EXPECT_NEAR(analysis.heads[0]["stable_rank"], 1, 1e-6) << "every row is the same";
  EXPECT_EQ(analysis["secondary_sink_share"], 1) << "every token is the first";
  EXPECT_EQ(analysis["primary_like_sinks"], kT - 1);
  EXPECT_NEAR(analysis.layers[0]["secondary_norm_by_first"], 1, 1e-6);
  EXPECT_NEAR(analysis.layers[0]["mlp_cosine_secondary"], analysis.layers[0]["mlp_cosine_first"], 1e-6);
  EXPECT_TRUE(std::isnan(analysis.layers[0]["mlp_cosine_others"])) << "there are no others";
}

// Where analyses are looked at: columns of comparisons, descriptions for the page, lines of metrics.
TEST_F(LayerFigures, AreEverywhereWhereAnalysesAreLookedAt) {
  make_model("softmax", 4);
  const Analysis analysis = analyse(FewTokens(2));
  const Json json = analysis.json(), line = analysis.lines()[0];
  std::vector<std::string> described;
  for (const Json& figure : json["figures"]) described.push_back(figure["key"]);
  for (const char* key : {"later_sink_share", "sinks_per_sequence", "concentration", "local_focus_0", "local_focus_3",
                          "head_diversity", "stable_rank", "secondary_sink_share", "secondary_sinks",
                          "gradient_sink_ratio", "max_io_norm", "tensors_kurtosis"}) {
    EXPECT_NE(std::find(described.begin(), described.end(), key), described.end()) << key;
    EXPECT_TRUE(json["summary"].contains(key)) << key;
    EXPECT_TRUE(line.contains(key)) << key;
  }
  EXPECT_EQ(json["secondary_sinks"]["positions"].size(), size_t{kT});
  EXPECT_EQ(json["secondary_sinks"]["like_first"][0].size(), size_t{kT});
  EXPECT_EQ(json["secondary_sinks"]["blocks"].size(), 2u);
  for (const char* key : {"later", "count"}) EXPECT_TRUE(json["sink_rates"]["0.1"].contains(key)) << key;
  const std::string text = analysis_text({analysis}, 100);
  for (const char* title : {"later position", "stable rank", "diversity", "like first", "primary-like", "first one at",
                            "/ others", "|cos| of MLP"})
    EXPECT_NE(text.find(title), std::string::npos) << title;
}

// Sums of weights that cancel are no mass, and a ratio of two of them says nothing.
TEST_F(LayerFigures, OfWeightsThatMayBeNegativeThereIsNoMass) {
  for (const char* attention : {"diff_v2", "tda", "affine"}) {
    make_model(attention, 4);
    const Analysis analysis = analyse(FewTokens(2));
    const Json json = analysis.json();
    for (const char* key : {"attention_mass_ratio", "value_gradient_per_mass"}) {
      EXPECT_FALSE(json["summary"].contains(key)) << attention << " " << key;
      EXPECT_FALSE(json["heads"][0].contains(key)) << attention << " " << key;
    }
    EXPECT_TRUE(json["heads"][0].contains("attention_mass_first"));
    EXPECT_TRUE(json["summary"].contains("value_gradient_ratio"));
    const std::string text = analysis_text({analysis}, 100);
    EXPECT_NE(text.find("layers 0 have weights that may be negative"), std::string::npos) << text;
    EXPECT_EQ(text.find("by mass: "), std::string::npos) << text;
  }
  make_model("softpick", 4);
  EXPECT_TRUE(analyse(FewTokens(2)).json()["summary"].contains("attention_mass_ratio"));
}

// An offset that leaves nothing of the first head's weights: what is no number of it is the second's.
TEST_F(LayerFigures, OfHeadsAreMeansOfThoseThatHaveRows) {
  make_model("elastic_softmax", 4, 2);
  const std::string tau = "blocks.0.attention.softmax_offset";
  set(tau, {-100, 0});
  const Analysis analysis = analyse(FewTokens(2));
  EXPECT_EQ(analysis.heads_without_rows(), 1);
  EXPECT_TRUE(analysis.heads[0].without_rows);
  for (const char* key : {"first_position_argmax_share", "attention_mass_ratio", "value_gradient_ratio"}) {
    EXPECT_TRUE(std::isnan(analysis.heads[0][key])) << key;
    EXPECT_EQ(analysis[key], analysis.heads[1][key]) << key;
    EXPECT_FALSE(std::isnan(analysis[key])) << key;
  }
  EXPECT_EQ(analysis["first_token_share"], analysis.heads[1]["first_token_share"] / 2) << "it looks at nothing";
  EXPECT_EQ(analysis.json()["heads_without_rows"], 1);
  const std::string text = analysis_text({analysis}, 100);
  EXPECT_NE(text.find("1 of 2 heads have no weight on a token"), std::string::npos) << text;
  set(tau, {-100, -100});
  EXPECT_TRUE(std::isnan(analyse(FewTokens(2))["first_position_argmax_share"])) << "a mean over nothing";
  set(tau, {NAN, 0});
  EXPECT_TRUE(std::isnan(analyse(FewTokens(2))["first_position_argmax_share"])) << "a run that diverged";
}

TEST_F(LayerFigures, TheHeadingSaysWhatIsChangedOfAPreset) {
  const auto heading = [&](const Json& attention) {
    make_model(attention, 4);
    const std::string text = analysis_text({analyse(FewTokens(2))}, 100);
    return text.substr(0, text.find('\n'));
  };
  EXPECT_EQ(heading("vga").find("vga attention, 5 sequences of 6 tokens"), 0u) << heading("vga");
  EXPECT_EQ(heading({{"type", "vga"}, {"window", 3}})
                .find("vga attention (score softmax, a window of 3 keys, gate: reads value, acts at the output, one a "
                      "head), 5 sequences"),
            0u);
}

// What is added up is shown before it is taken up: with parallel_residual both parts read one stream.
TEST_F(LayerFigures, OfBlocksWhosePartsReadOneStream) {
  ModelConfig config = parity::model_config({{"vocab_size", 2},
                                             {"context", kT},
                                             {"layers", 2},
                                             {"heads", 2},
                                             {"width", 8},
                                             {"parallel_residual", true},
                                             {"bias", true}});
  model_ = std::make_unique<Transformer>(*backend_, config, TransformerOptions{.act = DType::kF32, .max_batch = 3});
  model_->initialise(5);
  set("blocks.1.mlp.down.bias", parity::Values(8, 100));
  const std::string name = "blocks.1.mlp.down.weight";
  set(name, zeros(name));
  const Analysis analysis = analyse(FewTokens(2));
  EXPECT_EQ(analysis.layers[1]["mlp_output_infinity_norm"], 100);
  EXPECT_LT(analysis.layers[1]["output_infinity_norm"], 50);
  EXPECT_EQ(analysis.layers[1]["norm1_infinity_norm"], analysis.layers[1]["norm2_infinity_norm"]);
  EXPECT_GT(analysis.layers[1]["residual_infinity_norm"], 90);
}

}  // namespace
}  // namespace sluice
