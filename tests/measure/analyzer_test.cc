// The full probe against PyTorch and numpy (tests/golden/analysis.json, make_golden_analysis.py), and what must hold
// for any model: that it disturbs nothing, that gradients add up, and that shares and rates mean what they say.
#include "measure/analyzer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/config/json_text.h"
#include "base/philox.h"
#include "base/source_folder.h"
#include "model/parity.h"

namespace sluice {
namespace {

// The streams of make_golden.py.
constexpr uint64_t kGoldenStream = uint64_t{0x601D} << 32;
constexpr uint32_t kTokens = 1;

uint32_t golden_word(uint64_t seed, uint32_t what, size_t i) {
  return philox(seed, kGoldenStream | what, i / 4).word[i % 4];
}

uint32_t name_hash(const std::string& name) {
  uint32_t hash = 2166136261u;
  for (const char c : name) hash = (hash ^ uint8_t(c)) * 16777619u;
  return hash;
}

// Row b of make_golden.batch_of.
class GoldenTokens final : public DataSource {
 public:
  GoldenTokens(int64_t context, int64_t vocab, uint64_t seed) : DataSource(context), vocab_(vocab), seed_(seed) {}
  void fill(int64_t first, int64_t count, int32_t* inputs, int32_t* targets) const override {
    for (int64_t i = 0; i < count * context(); ++i) {
      const int64_t at = (first + i / context()) * (context() + 1) + i % context();
      inputs[i] = int32_t(golden_word(seed_, kTokens, size_t(at)) % uint64_t(vocab_));
      targets[i] = int32_t(golden_word(seed_, kTokens, size_t(at + 1)) % uint64_t(vocab_));
    }
  }
  int64_t vocab_size_needed() const override { return vocab_; }
  std::string describe() const override { return "golden"; }
  std::string identity() const override { return "golden"; }

 private:
  int64_t vocab_;
  uint64_t seed_;
};

const Json& golden() {
  static const Json json = read_json_file((source_folder() / "tests" / "golden" / "analysis.json").string());
  return json;
}

class AnalyzerTest : public testing::Test {
 protected:
  std::unique_ptr<Transformer> make_model(const Json& attention, DType act, int64_t max_batch = 4) {
    Json json = golden()["model"];
    json["attention"] = attention;
    auto model = std::make_unique<Transformer>(*backend_, parity::model_config(json),
                                               TransformerOptions{.act = act, .max_batch = max_batch});
    const uint64_t seed = golden()["seed"];
    model->initialise(seed);
    for (const ParamSpec& spec : model->params().specs()) {
      parity::Values values = parity::parameter(*model, spec.name);
      for (size_t i = 0; i < values.size(); ++i)
        values[i] += golden()["scatter"].get<double>() *
                     (2 * double(golden_word(seed, name_hash(spec.name), i) >> 8) * 0x1p-24 - 1);
      parity::assign(model->params().value(parity::named(*model, spec.name)), values);
    }
    model->params().refresh_compute_copy(*backend_);
    return model;
  }
  // Zero queries make zero scores.
  std::unique_ptr<Transformer> make_uniform_model(const Json& attention) {
    auto model = make_model(attention, DType::kF32);
    for (const char* name : {"blocks.0.attention.qkv.weight", "blocks.1.attention.qkv.weight",
                             "blocks.0.attention.qkv.bias", "blocks.1.attention.qkv.bias"}) {
      const Tensor all = model->params().value(parity::named(*model, name));
      const int64_t queries = 32, columns = all.elements() / 64;  // the first rows make queries
      backend_->run(Fill{slice(Tensor(all.data, all.dtype, {all.elements()}), 0, queries * columns), 0});
    }
    return model;
  }
  AnalysisOptions options() const {
    return {.sequences = golden()["batch"], .thresholds = golden()["thresholds"], .map_positions = golden()["map"]};
  }

  std::unique_ptr<Backend> backend_ = make_cpu_backend();
  GoldenTokens source_{golden()["model"]["context"], golden()["model"]["vocab_size"], golden()["seed"]};
};

// A mean over nothing, before and after it has been written.
bool is_no_number(const Json& json) { return json.is_null() || (json.is_number() && std::isnan(json.get<double>())); }

// Every number of `expected`, which may be an object or list of them, stands in `actual` too. `scale`: what the
// rounding of a number is relative to, where that is more than the number itself.
void expect_near(const Json& actual, const Json& expected, double bound, double scale, const std::string& where) {
  if (expected.is_object()) {
    for (const auto& [key, value] : expected.items()) {
      ASSERT_TRUE(actual.contains(key)) << where << "." << key;
      // A projection of the gradient cancels: its error is the gradient's.
      const bool projection = key.find("radial") != std::string::npos;
      expect_near(actual[key], value, bound, projection ? expected["value_gradient_first"].get<double>() : 0,
                  where + "." + key);
    }
  } else if (expected.is_array()) {
    ASSERT_EQ(actual.size(), expected.size()) << where;
    for (size_t i = 0; i < expected.size(); ++i)
      expect_near(actual[i], expected[i], bound, scale, where + "[" + std::to_string(i) + "]");
  } else if (is_no_number(expected)) {
    EXPECT_TRUE(is_no_number(actual)) << where << ": " << actual.dump();
  } else {
    ASSERT_TRUE(actual.is_number()) << where << ": " << actual.dump();
    const double x = expected;
    EXPECT_NEAR(actual.get<double>(), x, bound * std::max(std::fabs(x), scale)) << where;
  }
}

// A figure with a meter of its own has a test of its own.
template <class Figures>
void expect_all_known(const Analysis& analysis, const Figures& figures, const Json& expected) {
  const auto& of_heads = head_figures();
  for (const auto& figure : figures) {
    const bool metered = std::any_of(of_heads.begin(), of_heads.end(), [&](const HeadFigure& one) {
      return one.meter && std::string_view(one.key) == figure.key;
    });
    if (!metered && analysis.has(figure.needs)) {
      EXPECT_TRUE(expected.contains(figure.key)) << "no golden value of " << figure.key;
    }
  }
}

// Bounds: f64 arrives on the host in fp32 (2^-24, and the golden file's eight digits), a gate's part of a gradient as a
// difference of two such numbers, up to a hundred times larger than it. fp32 has some hundred roundings on the way as
// well. Curves have four digits.
TEST_F(AnalyzerTest, FiguresAreThoseOfPyTorch) {
  constexpr double kCurveBound = 0.6e-3;
  for (const auto& [name, expected] : golden()["cases"].items())
    for (const DType act : {DType::kF64, DType::kF32}) {
      const double bound = act == DType::kF64 ? 1e-5 : 2e-4;
      const std::string where = name + (act == DType::kF64 ? " f64" : " f32");
      const auto model = make_model(expected["attention"], act);
      const Analysis analysis = Analyzer(*model, source_, options()).run(12);
      const Json actual = analysis.json();
      expect_all_known(analysis, model_figures(), expected["summary"]);
      expect_all_known(analysis, layer_figures(), expected["layers"][0]);
      expect_all_known(analysis, head_figures(), expected["heads"][0]);
      for (const char* part : {"summary", "sink_rates", "layers", "heads"})
        expect_near(actual[part], expected[part], bound, 0, where + " " + part);
      expect_near(actual["residual_norm"], expected["residual_norm"], kCurveBound, 0, where + " residual_norm");
      expect_near(actual["curves"][1], expected["curves"], kCurveBound, 0, where + " curve");
      expect_near(actual["curves"][1]["map"], expected["map"], kCurveBound, 1e-3, where + " map");
    }
}

TEST_F(AnalyzerTest, TheSizeOfAMicroBatchChangesNothing) {
  const Json whole = Analyzer(*make_model("vga", DType::kF32, 7), source_, options()).run(0).json();
  const Json pieces = Analyzer(*make_model("vga", DType::kF32, 2), source_, options()).run(0).json();
  // Products of other shapes add up in another order.
  expect_near(pieces["summary"], whole["summary"], 1e-5, 0, "summary");
  expect_near(pieces["heads"], whole["heads"], 1e-4, 0, "heads");
}

TEST_F(AnalyzerTest, WithoutGradientsTheRestIsTheSame) {
  const auto model = make_model("vga", DType::kF32);
  AnalysisOptions without = options();
  without.gradients = false;
  Json all = Analyzer(*model, source_, options()).run(3).json(),
       some = Analyzer(*model, source_, without).run(3).json();
  EXPECT_FALSE(some["summary"].contains("value_gradient_ratio"));
  EXPECT_FALSE(some["curves"][0].contains("value_gradient"));
  for (const auto& [key, value] : some["summary"].items()) EXPECT_EQ(value.dump(), all["summary"][key].dump()) << key;
}

// What training needs of it: gradients may be overwritten, values and their results may not.
TEST_F(AnalyzerTest, AnAnalysisLeavesTheModelAsItWas) {
  const auto model = make_model("vga", DType::kF32);
  const auto learn = [&] {
    std::vector<int32_t> inputs(size_t(2 * source_.context())), targets(inputs.size());
    source_.fill(50, 2, inputs.data(), targets.data());
    const double loss = model->forward_backward({inputs.data(), targets.data(), 2, source_.context()}, 0.1, false);
    return std::pair(loss, parity::gradient(*model, "blocks.0.attention.qkv.weight"));
  };
  const auto before = learn();
  Analyzer(*model, source_, options()).run(0);
  EXPECT_EQ(learn(), before);
}

// Scores that are all alike: of softmax every row i gives 1/(i + 1) to each key; no sink, and entropies as large as can
// be.
TEST_F(AnalyzerTest, UniformAttentionHasNoSinkAndTheLargestEntropy) {
  const auto model = make_uniform_model("softmax");
  const Analysis analysis = Analyzer(*model, source_, options()).run(0);
  const int64_t T = source_.context();
  double first = 0, harmonic = 0;
  for (int64_t i = 0; i < T; ++i) first += 1.0 / double(i + 1) / double(T), harmonic += 1.0 / double(i + 1);
  EXPECT_NEAR(analysis["first_token_share"], first, 1e-9);
  EXPECT_NEAR(analysis["relative_entropy"], 1, 1e-9);
  EXPECT_NEAR(analysis["attention_mass_ratio"], harmonic / ((double(T) - harmonic) / double(T - 1)), 1e-9);
  EXPECT_NEAR(analysis.heads[0]["row_mass"], 1, 1e-12);
  EXPECT_EQ(analysis["sink_rate"], 0);    // 0.18 is below 0.3
  EXPECT_EQ(analysis.sinks[0].first, 1);  // and above 0.05
}

// A position is measured on the rows that see it: of a window of w, row i < w gives the first one 1 / (i + 1), and a
// later one gets 1 / w from each. Figures are numbers however short the window is.
TEST_F(AnalyzerTest, AWindowIsMeasuredOnTheRowsThatSeeAPosition) {
  const int64_t T = source_.context();
  for (const int64_t window : {int64_t{2}, int64_t{5}, T - 1, T, 2 * T}) {
    SCOPED_TRACE(window);
    const auto model = make_uniform_model({{"type", "softmax"}, {"window", window}});
    const Analysis analysis = Analyzer(*model, source_, options()).run(0);
    const int64_t seeing = std::min(window, T);
    double harmonic = 0;
    for (int64_t i = 0; i < seeing; ++i) harmonic += 1.0 / double(i + 1);
    EXPECT_NEAR(analysis["first_token_share"], harmonic / double(seeing), 1e-9);
    EXPECT_NEAR(analysis["relative_entropy"], 1, 1e-9);
    EXPECT_NEAR(analysis.heads[0]["row_mass"], 1, 1e-12);
    for (int64_t k = window - 1; k + window <= T; ++k)
      EXPECT_NEAR(analysis.curves[0].attention[size_t(k)], 1 / double(window), 1e-9) << k;
    EXPECT_EQ(analysis.json().dump().find("null"), std::string::npos);
  }
}

// A run that has diverged has no figures, least of all good ones.
TEST_F(AnalyzerTest, WhatIsNoNumberIsSaidToBeNone) {
  const auto model = make_model("softmax", DType::kF32);
  const Tensor weight = model->params().value(parity::named(*model, "blocks.0.attention.qkv.weight"));
  backend_->run(Fill{slice(Tensor(weight.data, weight.dtype, {weight.elements()}), 0, 1), std::nan("")});
  const Json json = Json::parse(Analyzer(*model, source_, options()).run(0).json().dump());
  for (const char* key : {"loss", "sink_rate", "sink_rate_largest", "sink_rate_any", "entropy", "relative_entropy",
                          "infinity_norm", "massive_over_median"})
    EXPECT_TRUE(json["summary"][key].is_null()) << key << " " << json["summary"][key].dump();
  EXPECT_TRUE(json["heads"][0]["entropy"].is_null());
}

TEST_F(AnalyzerTest, LinesOfMetricsAreWholeAndNameTheirPlace) {
  const auto model = make_model("vga", DType::kBF16);
  const std::vector<Json> lines = Analyzer(*model, source_, options()).run(40).lines();
  ASSERT_EQ(lines.size(), 1u + 2u + 8u);
  EXPECT_EQ(lines[0]["kind"], "analysis");
  EXPECT_EQ(lines[1]["kind"], "analysis_layer");
  EXPECT_EQ(lines.back()["kind"], "analysis_head");
  EXPECT_EQ(lines.back()["layer"], 1);
  EXPECT_EQ(lines.back()["head"], 3);
  for (const Json& line : lines) {
    EXPECT_EQ(line["step"], 40);
    for (const auto& [key, value] : line.items())
      if (value.is_number() && !key.starts_with("secondary") && !key.starts_with("mlp_cosine")) {  // there may be none
        EXPECT_TRUE(std::isfinite(value.get<double>())) << key;
      }
  }
}

}  // namespace
}  // namespace sluice
