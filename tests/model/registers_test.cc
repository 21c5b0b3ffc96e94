// Registers are one more token that only the first rows have: a model with one is a model without, whose sequences
// begin with a token of their own of which nothing is predicted.
#include <gtest/gtest.h>

#include "measure/analyzer.h"
#include "measure/probe.h"
#include "model/decoder_check.h"
#include "model/gradient_check.h"

namespace sluice {
namespace {

namespace gradients = parity::gradients;
using parity::Values;

constexpr int64_t kT = 7, kFirst = gradients::kVocab - 1;  // tokens of a sequence; the one that nobody else has

// Sequences of kT tokens below kFirst, behind kFirst if asked for.
class OpenedSequences final : public DataSource {
 public:
  explicit OpenedSequences(bool opened) : DataSource(kT + (opened ? 1 : 0)), opening_(opened ? 1 : 0) {}
  int64_t vocab_size_needed() const override { return gradients::kVocab; }
  int64_t sequences_per_epoch() const override { return 4; }
  void fill(int64_t first, int64_t count, int32_t* tokens, int32_t* targets) const override {
    for (int64_t s = first; s < first + count; ++s) {
      if (opening_) *tokens++ = kFirst, *targets++ = -1;
      for (int64_t t = 0; t < kT; ++t) *tokens++ = token(s, t), *targets++ = token(s, t + 1);
    }
  }
  std::string describe() const override { return "opened sequences"; }
  std::string identity() const override { return describe(); }

 private:
  static int32_t token(int64_t s, int64_t t) {
    return int32_t(philox(8, uint64_t(s), uint64_t(t)).word[0] % uint64_t(kFirst));
  }
  int64_t opening_;
};

// The two models, with equal parameters: B's first token and first position are A's register.
struct Pair {
  std::unique_ptr<Backend> backend = make_cpu_backend();
  Transformer registers, opened;

  explicit Pair(Json changes)
      : registers(*backend, gradients::small_model(with(changes, {{"context", kT}, {"registers", 1}})), options()),
        opened(*backend, gradients::small_model(with(changes, {{"context", kT + 1}})), options()) {
    opened.initialise(5);
    for (const ParamSpec& spec : opened.params().specs()) {
      Values values = parity::parameter(opened, spec.name);
      const int64_t C = opened.config().width;
      if (spec.name == "embedding.position.weight") {
        Values token = parity::parameter(opened, "embedding.token.weight"), row(values.begin(), values.begin() + C);
        for (int64_t c = 0; c < C; ++c) row[size_t(c)] += token[size_t(kFirst * C + c)];
        parity::assign(value("embedding.register.weight"), row);
        values.erase(values.begin(), values.begin() + C);
      }
      parity::assign(value(spec.name), values);
    }
  }

  static TransformerOptions options() { return {.act = DType::kF64, .max_batch = 2}; }
  static Json with(Json json, const Json& others) {
    json.update(others);
    return json;
  }
  Tensor value(const std::string& name) { return registers.params().value(parity::named(registers, name)); }
};

void expect_near_values(const Values& a, const Values& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-11 * (1 + std::fabs(b[i]))) << what << " " << i;
}

const std::vector<Json> kModels = {
    {{"attention", "vga"}}, {{"attention", "key_value_bias"}, {"kv_heads", 1}}, {{"attention", "sigmoid"}}};

TEST(Registers, OneIsAFirstTokenOfWhichNothingIsPredicted) {
  for (const Json& changes : kModels) {
    Pair pair(changes);
    std::vector<int32_t> tokens(2 * (kT + 1)), targets(tokens);
    double losses[2];
    for (const bool opened : {false, true}) {
      const OpenedSequences source(opened);
      source.fill(0, 2, tokens.data(), targets.data());
      losses[opened] = (opened ? pair.opened : pair.registers)
                           .forward_backward({tokens.data(), targets.data(), 2, source.context()}, 1, false);
    }
    EXPECT_NEAR(losses[0], losses[1], 1e-11 * losses[1]);
    for (const ParamSpec& spec : pair.opened.params().specs()) {
      Values expected = parity::gradient(pair.opened, spec.name), found = parity::gradient(pair.registers, spec.name);
      const int64_t C = pair.opened.config().width;
      if (spec.name == "embedding.position.weight") {
        const Values row(expected.begin(), expected.begin() + C);
        expect_near_values(parity::gradient(pair.registers, "embedding.register.weight"), row, "registers");
        expected.erase(expected.begin(), expected.begin() + C);
      } else if (spec.name == "embedding.token.weight") {
        std::fill_n(expected.begin() + kFirst * C, C, 0);
      }
      expect_near_values(found, expected, spec.name);
    }
  }
}

TEST(Registers, InstrumentsSeeThemAsFirstPositions) {
  Pair pair(kModels.front());
  const OpenedSequences with_register(false), opened(true);
  const ProbeResult a = Prober(pair.registers, with_register, 4).run(), b = Prober(pair.opened, opened, 4).run();
  for (size_t h = 0; h < a.heads.size(); ++h) {
    EXPECT_NEAR(a.heads[h].value_norm_sink, b.heads[h].value_norm_sink, 1e-5);
    EXPECT_NEAR(a.heads[h].residual_norm_rest, b.heads[h].residual_norm_rest, 1e-5);
    // Tokens' rows alone; the first row of the other model looks at itself.
    EXPECT_NEAR(a.heads[h].sink_attention, (b.heads[h].sink_attention * (kT + 1) - 1) / kT, 1e-5);
  }
  const AnalysisOptions options = {.sequences = 4, .thresholds = {0.2}};
  Analysis of_a = Analyzer(pair.registers, with_register, options).run(0);
  Analysis of_b = Analyzer(pair.opened, opened, options).run(0);
  EXPECT_EQ(of_a.length, kT);
  EXPECT_EQ(of_a.registers, 1);
  EXPECT_NEAR(of_a.loss, of_b.loss * (kT + 1) / kT, 1e-6);
  ASSERT_EQ(of_a.residual_norm.size(), of_b.residual_norm.size());
  for (size_t i = 0; i < of_a.residual_norm.size(); ++i)
    expect_near_values(of_a.residual_norm[i], of_b.residual_norm[i], "residual norms");
  for (size_t h = 0; h < of_a.curves.size(); ++h)
    expect_near_values(of_a.curves[h].attention, of_b.curves[h].attention, "attention");
}

TEST(Registers, GradientsAreThoseOfDifferences) {
  for (const char* position : {"learned", "rope", "none"})
    for (const bool tied : {false, true})
      gradients::check_gradients({{"registers", tied ? 3 : 1}, {"position", position}, {"tied_head", tied}});
  gradients::check_gradients({{"registers", 2}, {"context", 9}, {"attention", "vga"}}, 4);
}

TEST(Registers, DecodingIsTheWholePass) {
  for (const char* position : {"learned", "rope", "none"})
    parity::decoding::check_decoding({{"registers", 2}, {"position", position}, {"attention", "vga"}});
}

TEST(Registers, LossesOfTokensAreThoseOfTokens) {
  const auto backend = make_cpu_backend();
  Transformer model(*backend, gradients::small_model({{"registers", 3}}), Pair::options());
  model.initialise(2);
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6}, targets = {2, 3, -1, 5, 6, 7};
  const Batch batch = {tokens.data(), targets.data(), 2, 3};
  const std::vector<double> losses = model.token_losses(batch);
  ASSERT_EQ(losses.size(), tokens.size());
  EXPECT_NEAR(std::accumulate(losses.begin(), losses.end(), 0.0), model.loss(batch), 1e-12);
  for (size_t i = 0; i < losses.size(); ++i) EXPECT_EQ(losses[i] > 0, i != 2) << i;
}

}  // namespace
}  // namespace sluice
