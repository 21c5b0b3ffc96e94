// Quantized models: against PyTorch (tests/golden/quantization.json, make_quantization.py), and what must hold for any.
#include "measure/quantizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error_text.h"
#include "kernels/device_parity.h"
#include "measure/quantization_report.h"
#include "measure/quantized_subject.h"

namespace sluice {
namespace {

using namespace quantization;

// Both compute in f64, so ranges and losses agree to 1e-9, rounding to the grid included. Shares and errors are counted
// in fp32 (2^-24 a value); percentiles are of values rounded to fp32, which moves grids, and losses with them, by 1e-7.
void compare_layer(const QuantizedLinear& got, const LayerCost& cost, const Json& want, double bound) {
  const std::string& name = got.name;
  EXPECT_EQ(name, want["name"]);
  expect_close(got.weight_norm, want["weight_norm"], 1e-12, name + " weight norm");
  ASSERT_EQ(got.weight_grids.size(), want["weight_scales"].size()) << name;
  for (size_t i = 0; i < got.weight_grids.size(); ++i)
    expect_close(got.weight_grids[i].scale, want["weight_scales"][i], 1e-12, name + " weight scale");
  expect_close(got.weight_error.clipped_share(), want["weight_clipped"], 1e-12, name + " weights clipped");
  expect_close(got.weight_error.relative(), want["weight_error"], 1e-6, name + " weight error");
  expect_close(got.seen.least, want["input_least"], bound, name + " least input");
  expect_close(got.seen.greatest, want["input_greatest"], bound, name + " greatest input");
  expect_close(got.input_norm, want["input_norm"], bound, name + " input norm");
  expect_close(got.input_grid.scale, want["input_scale"], bound, name + " input scale");
  EXPECT_EQ(got.input_grid.zero_point(), want["input_zero"].get<int64_t>()) << name;
  expect_close(got.input_error.clipped_share(), want["input_clipped"], 1e-12, name + " inputs clipped");
  expect_close(got.input_error.relative(), want["input_error"], 1e-6, name + " input error");
  EXPECT_FALSE(std::isnan(cost.only) || std::isnan(cost.except)) << name;
}

TEST(Quantizer, AgreesWithPyTorch) {
  const auto backend = make_cpu_backend();
  for (const auto& [name, one] : cases()["cases"].items()) {
    SCOPED_TRACE(name);
    const Json& want = values()[name];
    Subject subject(*backend, one["model"], DType::kF64);
    Quantizer quantizer(subject.model, options_of(one));
    quantizer.calibrate(subject.calibration);
    const int64_t sequences = cases()["sequences"];
    const QuantizationReport got = measure_quantization(quantizer, subject.held_out, sequences, sequences);
    const double bound = one.contains("percentile") ? 1e-6 : 1e-9;
    expect_close(got.plain, want["plain"], 1e-9, "plain");
    expect_close(got.quantized, want["quantized"], bound, "quantized");
    expect_close(got.weights_only, want["weights_only"], bound, "weights only");
    expect_close(got.inputs_only, want["inputs_only"], bound, "inputs only");
    ASSERT_EQ(got.linears.size(), want["layers"].size());
    for (size_t i = 0; i < got.linears.size(); ++i) {
      const Json& layer = want["layers"][i];
      compare_layer(got.linears[i], got.costs[i], layer, bound);
      expect_close(got.plain + got.costs[i].only, layer["only_it"], bound, got.linears[i].name + " only it");
      expect_close(got.quantized - got.costs[i].except, layer["left_out"], bound, got.linears[i].name + " left out");
    }
  }
}

// The op against PyTorch's own, in fp32 on every instruction set and on the device: the same bits.
TEST(Quantizer, FakeQuantizeEqualsPyTorchs) {
  const Json& golden = values()["fake_quantize"];
  const int64_t n = int64_t(golden["x"].size());
  TestBuffer x(DType::kF32, 1, n), out(DType::kF32, 1, n), scale(DType::kF32, Shape{1});
  for (int64_t i = 0; i < n; ++i) x.set(i, golden["x"][size_t(i)].get<double>());
  for (const Json& one : golden["cases"]) {
    const double zero = one["zero"], top = one["top"];
    scale.set(0, one["scale"].get<double>());
    const auto expect_same = [&](const TestBuffer& got) {
      for (int64_t i = 0; i < n; ++i)
        ASSERT_EQ(float(got.at(i)), one["values"][size_t(i)].get<float>()) << x.at(i) << " by " << scale.at(0);
    };
    for (const IsaKernels* isa : available_isas()) {
      isa->run(FakeQuantize{x, out, scale, -zero, top - zero});
      expect_same(out);
    }
    if (!cuda_unavailable_reason().empty()) continue;
    expect_same(after(cuda_backend(), {x, out, scale}, [&](Backend& b, const Tensors& t) {
      b.run(FakeQuantize{t[0], t[1], t[2], -zero, top - zero});
    })[1]);
  }
}

// With grids that reach to the last value of the very data.
TEST(Quantizer, ManyBitsChangeNothingAndFewALot) {
  const auto backend = make_cpu_backend();
  const auto change = [&](int bits) {
    Subject subject(*backend, {{"attention", "vga"}}, DType::kF32);
    Quantizer quantizer(subject.model,
                        options_of({{"weight_bits", bits}, {"input_bits", bits}, {"percentile", 100.0}}));
    quantizer.calibrate(subject.calibration);
    // The zero point is rounded, so that either end may lie half a step beyond the grid.
    for (const QuantizedLinear& linear : quantizer.linears()) EXPECT_LE(linear.input_error.clipped, 2) << linear.name;
    return std::fabs(quantizer.loss(subject.calibration, 5, {}) - quantizer.loss(subject.calibration, 5));
  };
  // The loss's change is at least linear in the step, and 16 bits make it 2^13 times finer than 3; their own roundings
  // and fp32's, 2^-24 of a loss of 3 in each of a few hundred sums, leave some of that.
  const double fine = change(16), usual = change(8), coarse = change(3);
  EXPECT_LT(fine, 1e-5);
  EXPECT_LT(fine, coarse / 100);
  EXPECT_LT(usual, coarse);
}

// One weight of 3 among those below 0.5 takes most of min-max's 16 points; the least squared error gives it up, for it
// is one of 1536; a channel's own grid confines it to its row.
TEST(Quantizer, AnOutlyingWeightSpoilsMinMaxAlone) {
  const auto backend = make_cpu_backend();
  const auto error = [&](const std::string& rule, bool outlier) {
    Subject subject(*backend, Json::object(), DType::kF32);
    if (outlier)
      subject.model.params().value(named(subject.model, "blocks.1.mlp.up.weight")).as<float>()[5 * 32 + 3] = 3;
    Quantizer quantizer(
        subject.model,
        options_of({{"weight_bits", 4}, {"mse", rule == "mse"}, {"per_channel", rule == "per channel"}}));
    quantizer.calibrate(subject.calibration);
    const QuantizedLinear& linear = quantizer.linears()[6];
    EXPECT_EQ(linear.name, "blocks.1.mlp.up");
    // Of all others: what clipping the outlier itself costs is left out.
    const Tensor weight = subject.model.params().value(linear.weight);
    double squares = 0;
    for (int64_t i = 0; i < weight.elements(); ++i) {
      if (i == 5 * 32 + 3) continue;
      const Grid& grid = linear.weight_grids[linear.weight_grids.size() > 1 ? size_t(i / 32) : 0];
      const double w = weight.as<float>()[i];
      squares += std::pow(w - grid.scale * std::clamp(std::nearbyint(w / grid.scale), grid.low, grid.high), 2);
    }
    return std::sqrt(squares);
  };
  const double usual = error("minmax", false);
  EXPECT_GT(error("minmax", true), 4 * usual);
  EXPECT_LT(error("mse", true), 2 * usual);
  EXPECT_LT(error("per channel", true), 2 * usual);
}

TEST(Quantizer, FinerGridsHaveSmallerErrors) {
  const auto backend = make_cpu_backend();
  const auto errors = [&](const Json& options) {
    Subject subject(*backend, {{"attention", "gated_attention"}}, DType::kF32);
    Quantizer quantizer(subject.model, options_of(options));
    quantizer.calibrate(subject.calibration);
    std::vector<double> out;
    for (const QuantizedLinear& linear : quantizer.linears()) out.push_back(linear.weight_error.error);
    return out;
  };
  const auto tensor = errors({{"weight_bits", 4}}), channel = errors({{"weight_bits", 4}, {"per_channel", true}});
  const auto tensor_mse = errors({{"weight_bits", 4}, {"mse", true}});
  const auto channel_mse = errors({{"weight_bits", 4}, {"mse", true}, {"per_channel", true}});
  for (size_t i = 0; i < tensor.size(); ++i) {
    EXPECT_LT(channel[i], tensor[i]);
    EXPECT_LE(tensor_mse[i], tensor[i]);
    EXPECT_LE(channel_mse[i], channel[i]);
  }
}

// A feature of the first norm's output that is 300 times the others: a percentile gives up its ends, min-max does not.
TEST(Quantizer, AnOutlyingInputSpoilsMinMaxAlone) {
  const auto backend = make_cpu_backend();
  const auto scale_and_clipped = [&](const Json& options) {
    Subject subject(*backend, Json::object(), DType::kF32);
    subject.model.params().value(named(subject.model, "blocks.0.norm1.weight")).as<float>()[3] = 300;
    Quantizer quantizer(subject.model, options_of(options));
    quantizer.calibrate(subject.calibration);
    const QuantizedLinear& qkv = quantizer.linears()[0];
    return std::pair(qkv.input_grid.scale, qkv.input_error.clipped_share());
  };
  const auto [minmax_scale, minmax_clipped] = scale_and_clipped(Json::object());
  const auto [percentile_scale, percentile_clipped] = scale_and_clipped({{"percentile", 99.0}});
  EXPECT_LT(percentile_scale, 0.9 * minmax_scale);
  EXPECT_NEAR(percentile_clipped, 0.02, 0.003);  // 1% at either end, less those within half a step
  EXPECT_LT(minmax_clipped, 0.002);              // the running range forgets single batches' ends
}

TEST(Quantizer, TheModelIsItselfAgainAfterwards) {
  const auto backend = make_cpu_backend();
  Subject subject(*backend, Json::object(), DType::kF32);
  const double before = [&] {
    Quantizer idle(subject.model, options_of(Json::object()));
    return idle.loss(subject.held_out, 5);
  }();
  {
    Quantizer quantizer(subject.model, options_of({{"weight_bits", 2}, {"input_bits", 2}}));
    quantizer.calibrate(subject.calibration);
    EXPECT_NE(quantizer.loss(subject.held_out, 5, {}), before);
    EXPECT_EQ(quantizer.loss(subject.held_out, 5), before);
    EXPECT_EQ(quantizer.loss(subject.held_out, 5, {.weights = false, .inputs = false}), before);
  }
  Quantizer again(subject.model, options_of(Json::object()));
  EXPECT_EQ(again.loss(subject.held_out, 5), before);
}

// Documents of ten tokens, which attention must not leave.
class MaskedTokens final : public DataSource {
 public:
  explicit MaskedTokens(const DataSource& tokens) : DataSource(tokens.context()), tokens_(tokens) {}
  void fill(int64_t first, int64_t count, int32_t* inputs, int32_t* targets) const override {
    tokens_.fill(first, count, inputs, targets);
  }
  bool masks_documents() const override { return true; }
  void fill_document_starts(int64_t, int64_t count, int32_t* starts) const override {
    for (int64_t i = 0; i < count * context(); ++i) starts[i] = int32_t(i % context() / 10 * 10);
  }
  int64_t vocab_size_needed() const override { return tokens_.vocab_size_needed(); }
  std::string describe() const override { return "masked"; }
  std::string identity() const override { return "masked"; }

 private:
  const DataSource& tokens_;
};

TEST(Quantizer, DocumentsStayApart) {
  const auto backend = make_cpu_backend();
  Subject subject(*backend, Json::object(), DType::kF32);
  const MaskedTokens masked_calibration(subject.calibration), masked(subject.held_out);
  const int64_t T = subject.config.context;
  std::vector<int32_t> inputs(size_t(3 * T)), targets(inputs), starts(inputs);
  masked.fill(0, 3, inputs.data(), targets.data());
  masked.fill_document_starts(0, 3, starts.data());
  const double want = subject.model.loss({inputs.data(), targets.data(), 3, T, starts.data()}) / double(3 * T);
  Quantizer with(subject.model, options_of({{"input_bits", 16}})),
      without(subject.model, options_of({{"input_bits", 16}}));
  with.calibrate(masked_calibration);
  without.calibrate(subject.calibration);
  EXPECT_DOUBLE_EQ(with.loss(masked, 3), want);
  EXPECT_NE(with.loss(masked, 3), with.loss(subject.held_out, 3));
  EXPECT_NE(with.linears()[1].seen, without.linears()[1].seen);  // attention's output
  EXPECT_EQ(with.linears()[0].seen, without.linears()[0].seen);  // before any attention
}

TEST(Quantizer, AModelThatIsNotFiniteIsRefusedByName) {
  const auto backend = make_cpu_backend();
  Subject subject(*backend, Json::object(), DType::kF32);
  subject.model.params().value(named(subject.model, "blocks.0.mlp.up.bias")).as<float>()[3] = NAN;
  Quantizer quantizer(subject.model, options_of(Json::object()));
  try {
    quantizer.calibrate(subject.calibration);
    FAIL() << "no error";
  } catch (const RunError& error) {
    EXPECT_NE(std::string(error.what()).find("blocks.0.mlp.down"), std::string::npos) << error.what();
  }
}

// Initial values are drawn on the host, the same on both; products are summed up in another order.
TEST(Quantizer, TheDeviceAgrees) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for (const Json& options : {Json::object(), Json{{"per_channel", true}, {"mse", true}}}) {
    std::vector<double> losses[2], scales[2];
    for (int device : {0, 1}) {
      Backend& backend = device ? cuda_backend() : cpu_backend();
      Subject subject(backend, {{"attention", "gated_attention"}}, DType::kF32);
      subject.model.initialise(cases()["seed"]);  // not scattered on either
      Quantizer quantizer(subject.model, options_of(options));
      quantizer.calibrate(subject.calibration);
      losses[device] = {quantizer.loss(subject.held_out, 3), quantizer.loss(subject.held_out, 3, {})};
      for (const QuantizedLinear& linear : quantizer.linears())
        scales[device].push_back(linear.input_grid.scale), scales[device].push_back(linear.weight_grids[0].scale);
    }
    EXPECT_NEAR(losses[1][0], losses[0][0], 1e-5);
    EXPECT_NEAR(losses[1][1], losses[0][1], 1e-4);  // a value within a rounding of a half goes another way
    for (size_t i = 0; i < scales[0].size(); ++i) EXPECT_NEAR(scales[1][i] / scales[0][i], 1, 1e-5) << i;
  }
}

TEST(QuantizationReport, TableAndJsonTellTheSame) {
  const auto backend = make_cpu_backend();
  Subject subject(*backend, Json::object(), DType::kF32);
  Quantizer quantizer(subject.model, options_of({{"weight_bits", 4}}));
  quantizer.calibrate(subject.calibration);
  const QuantizationReport report = measure_quantization(quantizer, subject.held_out, 5, 3);
  const std::string text = to_text(report);
  for (const std::string part : {"W4A8", "as it is", "blocks.1.mlp.down", "int4, symmetric, per matrix, min-max",
                                 "uint8, asymmetric", "5 held-out sequences", "12 training sequences"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  const Json json = report.json();
  EXPECT_EQ(json["quantization"], "W4A8");
  EXPECT_EQ(json["layers"].size(), 8u);
  EXPECT_EQ(json["layers"][0]["weight"]["scales"].size(), 3u);
  EXPECT_EQ(json["layers"][0]["weight"]["rows_of_scales"], Json({32, 32, 32}));
  EXPECT_DOUBLE_EQ(json["quantized"]["loss"].get<double>(), report.quantized);
  EXPECT_DOUBLE_EQ(json["layers"][3]["loss"]["only_it"].get<double>(), report.costs[3].only);
  EXPECT_EQ(measure_quantization(quantizer, subject.held_out, 5, 0).json()["layers"][0].contains("loss"), false);
}

}  // namespace
}  // namespace sluice
