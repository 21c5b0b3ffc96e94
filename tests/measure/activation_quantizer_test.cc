// Models with all of their activations on grids: against PyTorch, and that a hook that only looks changes nothing.
#include "measure/activation_quantizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error_text.h"
#include "measure/quantization_report.h"
#include "measure/quantized_subject.h"
#include "model/foreign_residuals.h"

namespace sluice {
namespace {

using namespace quantization;

// As Quantizer.AgreesWithPyTorch: both in f64, errors in fp32.
TEST(ActivationQuantizer, AgreesWithPyTorch) {
  const auto backend = make_cpu_backend();
  int64_t seen = 0;
  for (const auto& [name, one] : cases()["cases"].items()) {
    if (!one.value("all_activations", false)) continue;
    SCOPED_TRACE(name);
    const Json& want = values()[name]["all_activations"];
    Subject subject(*backend, one["model"], DType::kF64);
    Quantizer quantizer(subject.model, options_of(one));
    quantizer.calibrate(subject.calibration);
    const QuantizationReport got = measure_quantization(quantizer, subject.held_out, cases()["sequences"], 0);
    expect_close(got.all_activations, want["loss"], 1e-9, "loss");
    ASSERT_EQ(got.activations.size(), want["of"].size());
    for (size_t i = 0; i < got.activations.size(); ++i, ++seen) {
      const QuantizedActivation& found = got.activations[i];
      const Json& of = want["of"][i];
      EXPECT_EQ(found.name, of["name"]);
      expect_close(found.seen.least, of["least"], 1e-9, found.name + " least");
      expect_close(found.seen.greatest, of["greatest"], 1e-9, found.name + " greatest");
      expect_close(found.grid.scale, of["scale"], 1e-9, found.name + " scale");
      EXPECT_EQ(found.grid.zero_point(), of["zero"].get<int64_t>()) << found.name;
      expect_close(found.error.clipped_share(), of["clipped"], 1e-12, found.name + " clipped");
      expect_close(found.error.relative(), of["error"], 1e-6, found.name + " error");
    }
    EXPECT_NE(got.all_activations, got.quantized);
  }
  EXPECT_EQ(seen, 3 * (2 * 13 + 2) + 2) << "blocks, the final norm, and a transform in the head";
}

// Everything is shown to it; it leaves all as it is.
class Looker final : public LinearHook, public ActivationHook {
 public:
  LinearOperands operands(const Pass&, ParamId weight, const LinearOperands& given) override {
    ++products[weight.index];
    return given;
  }
  ActivationHook* activations() override { return this; }
  void tensor(const Pass&, const ActivationPlace& place, const Tensor& x) override { numbers[place] += x.elements(); }
  void row(const Pass&, const ActivationPlace& place, std::span<double> x) override {
    numbers[place] += int64_t(x.size());
  }
  std::map<ActivationPlace, int64_t> numbers;
  std::map<int, int> products;  // of each weight
};

// The host's attention is the device's, whatever the model.
TEST(ActivationQuantizer, WhoOnlyLooksChangesNothing) {
  const auto backend = make_cpu_backend();
  const std::vector<Json> models = {
      {{"attention", "vga"}},
      {{"attention", {{"score", {{"type", "sigmoid"}}}, {"key_value_bias", true}}}, {"kv_heads", 1}},
      {{"attention", {{"type", "vga"}, {"site", "source"}}},
       {"position", "rope"},
       {"norm", "rmsnorm"},
       {"mlp", "swiglu"}},
      {{"attention", "sink_logit"}, {"value_head_size", 5}},
      {{"attention", "key_bias"}, {"parallel_residual", true}},
      {{"attention", Json::parse(R"(["softpick", {"exclude_self": true}])")}, {"qk_norm", true}}};
  for (const Json& changes : models) {
    SCOPED_TRACE(changes.dump());
    Subject subject(*backend, changes, DType::kF64);
    const int64_t B = subject.model.max_batch(), T = subject.config.context;
    std::vector<int32_t> inputs(size_t(B * T)), targets(inputs.size()), starts(inputs.size());
    subject.held_out.fill(0, B, inputs.data(), targets.data());
    for (int64_t n = 0; n < B * T; ++n) starts[size_t(n)] = n % T >= 30 ? 30 : 0;
    for (const int32_t* documents :
         {static_cast<const int32_t*>(nullptr), static_cast<const int32_t*>(starts.data())}) {
      const Batch batch = {inputs.data(), targets.data(), B, T, documents};
      const double plain = subject.model.loss(batch);
      Looker looker;
      subject.model.set_hook(&looker);
      EXPECT_NEAR(subject.model.loss(batch), plain, 1e-12 * plain);
      subject.model.set_hook(nullptr);
      const int64_t slots = changes["attention"].dump().find("key") == std::string::npos ? 0 : T;
      const int64_t pairs = documents ? 30 * 31 / 2 + (T - 30) * (T - 29) / 2 : T * (T + 1) / 2;
      for (const Shown what : {Shown::kScores, Shown::kWeights})
        EXPECT_EQ(looker.numbers.at({2, what}), B * 2 * (pairs + slots));
      EXPECT_EQ(looker.numbers.at({3, Shown::kActive}), B * T * 48);
      EXPECT_EQ(looker.numbers.at({4, Shown::kNormed}), B * T * 32);
    }
  }
}

// Results of noise heads are ranges of columns; gates of norms are products, each shown once a pass.
TEST(ActivationQuantizer, WhoOnlyLooksChangesNothingOfNoiseHeadsAndGatedNorms) {
  const auto backend = make_cpu_backend();
  for (const bool parallel : {false, true})
    for (const char* attention : {"diff_v1", "grouped_diff"}) {
      SCOPED_TRACE(fmt::format("{}, parallel {}", attention, parallel));
      Subject subject(*backend, {{"attention", attention}, {"norm_gate", 3}, {"parallel_residual", parallel}},
                      DType::kF64);
      const int64_t B = subject.model.max_batch(), T = subject.config.context;
      std::vector<int32_t> inputs(size_t(B * T)), targets(inputs.size());
      subject.held_out.fill(0, B, inputs.data(), targets.data());
      const Batch batch = {inputs.data(), targets.data(), B, T};
      const double plain = subject.model.loss(batch);
      Looker looker;
      subject.model.set_hook(&looker);
      EXPECT_NEAR(subject.model.loss(batch), plain, 1e-12 * plain);
      subject.model.set_hook(nullptr);
      for (const auto& [weight, times] : looker.products)
        EXPECT_EQ(times, 1) << subject.model.params().specs()[size_t(weight)].name;
    }
}

TEST(ActivationQuantizer, ManyBitsChangeNothingAndFewALot) {
  const auto backend = make_cpu_backend();
  const auto change = [&](int bits) {
    Subject subject(*backend, {{"attention", "vga"}}, DType::kF32);
    Quantizer quantizer(
        subject.model,
        options_of({{"weight_bits", bits}, {"input_bits", bits}, {"percentile", 100.0}, {"all_activations", true}}));
    quantizer.calibrate(subject.calibration);
    for (const QuantizedActivation& one : quantizer.activations_found()) {
      EXPECT_LE(one.error.clipped, 2) << one.name;
      EXPECT_NEAR(one.grid.ends().greatest - one.grid.ends().least,
                  std::max(one.seen.greatest, 0.0) - std::min(one.seen.least, 0.0),
                  1e-5 * (one.seen.greatest - one.seen.least))
          << one.name;
    }
    return std::fabs(quantizer.loss(subject.calibration, 5, {.activations = true}) -
                     quantizer.loss(subject.calibration, 5));
  };
  const double fine = change(16), usual = change(8), coarse = change(3);
  EXPECT_LT(fine, 3e-5);
  EXPECT_LT(fine, coarse / 100);
  EXPECT_LT(usual, coarse);
}

// Without the flag nothing is shown, and what was quantized before is as it was.
TEST(ActivationQuantizer, IsAskedForByName) {
  const auto backend = make_cpu_backend();
  Subject plain(*backend, Json::object(), DType::kF32), all(*backend, Json::object(), DType::kF32);
  Quantizer milder(plain.model, options_of(Json::object())), whole(all.model, options_of({{"all_activations", true}}));
  milder.calibrate(plain.calibration);
  whole.calibrate(all.calibration);
  EXPECT_TRUE(milder.activations_found().empty());
  const QuantizationReport report = measure_quantization(milder, plain.held_out, 5, 0);
  EXPECT_FALSE(report.json().contains("all_activations"));
  EXPECT_EQ(to_text(report).find("all activations"), std::string::npos);
  const QuantizationReport more = measure_quantization(whole, all.held_out, 5, 0);
  EXPECT_NEAR(more.quantized, report.quantized, 1e-4) << "scores of the calibration are the host's, in double";
  const Json json = more.json();
  EXPECT_EQ(json["all_activations"]["loss"], more.all_activations);
  EXPECT_EQ(json["all_activations"]["of"].size(), 28u);
  EXPECT_EQ(json["all_activations"]["of"][5]["name"], "blocks.0.attention.scores");
  const std::string text = to_text(more);
  for (const char* part : {"W8A8, all activations", "blocks.1.attention.weights", "head.normed"})
    EXPECT_NE(text.find(part), std::string::npos) << part;
}

TEST(ActivationQuantizer, RefusesMixesOfStreams) {
  const ListedResidual depth{foreign::depth()};
  const auto backend = make_cpu_backend();
  Subject subject(*backend, {{"residual", {{"type", "depth"}}}}, DType::kF32);
  expect_contains(user_error_of([&] {
                    Quantizer(subject.model, options_of({{"all_activations", true}}));
                  }),
                  {"--all-activations", "model.residual = add or post_norm", "depth"});
}

// How many scores there are differs from sequence to sequence: ranges can do without that number.
TEST(ActivationQuantizer, TakesMaskedDocumentsWithRangesAlone) {
  class Masked final : public GoldenTokens {
   public:
    using GoldenTokens::GoldenTokens;
    bool masks_documents() const override { return true; }
    void fill_document_starts(int64_t first, int64_t count, int32_t* starts) const override {
      for (int64_t n = 0; n < count * context(); ++n) {
        const int64_t second = 1 + (first + n / context()) % 9;
        starts[n] = int32_t(n % context() >= second ? second : 0);
      }
    }
  };
  const auto backend = make_cpu_backend();
  Subject subject(*backend, Json::object(), DType::kF32);
  const Masked data(subject.config, 3);
  Quantizer ranges(subject.model, options_of({{"all_activations", true}}));
  ranges.calibrate(data);
  EXPECT_TRUE(std::isfinite(ranges.loss(data, 5, {.activations = true})));
  Quantizer percentiles(subject.model, options_of({{"all_activations", true}, {"percentile", 99.0}}));
  expect_contains(user_error_of([&] { percentiles.calibrate(data); }), {"percentile", "data.document_mask", "minmax"});
}

TEST(ActivationQuantizer, ANumberThatIsNoneIsNamed) {
  const auto backend = make_cpu_backend();
  Subject subject(*backend, Json::object(), DType::kF32);
  const Tensor bias = subject.model.params().value(named(subject.model, "final_norm.bias"));
  backend->run(Fill{slice(Tensor(bias.data, bias.dtype, {bias.elements()}), 0, 1), INFINITY});
  Quantizer quantizer(subject.model, options_of({{"all_activations", true}}));
  try {
    quantizer.calibrate(subject.calibration);
    ADD_FAILURE() << "calibrated";
  } catch (const RunError& error) {
    expect_contains(error.what(), {"head.normed", "not finite"});
  }
}

}  // namespace
}  // namespace sluice
