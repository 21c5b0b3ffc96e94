// Queries and keys of another source than the layer's input: the embedding, fixed random rows, a fixed text.
#include "model/attention/stages/queries_and_keys/qk_source.h"

#include <gtest/gtest.h>

#include "base/error_text.h"
#include "data/sources/random_tokens.h"
#include "measure/analyzer.h"
#include "measure/probe.h"
#include "measure/quantizer.h"
#include "model/decoder_check.h"
#include "model/gradient_check.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int64_t kT = 6, kBatch = 2;

Json text_of(const std::vector<int32_t>& tokens) { return {{"qk_source", {{"type", "text"}, {"tokens", tokens}}}}; }

Json with(Json json, const Json& more) {
  json.update(more);
  return json;
}

// Models with each source, alone and with what works on queries and keys, on rows, or on the stream's beginning.
std::vector<Json> models(int64_t context) {
  const Json text = text_of(std::vector<int32_t>(gradients::random_tokens(7, context)));
  const auto run = [](const Json& part, const char* type) { return with({{"type", type}}, part); };
  std::vector<Json> out;
  for (const Json& part : {Json{{"qk_source", "random"}}, Json{{"qk_source", "embedding"}}, text})
    for (const Json& more :
         {Json{{"attention", run(part, "softmax")}},
          Json{{"attention", run(part, "vga")}, {"position", "rope"}, {"kv_heads", 1}, {"tied_head", true}},
          Json{{"attention", {"softmax", run(part, "key_value_bias")}}, {"qk_norm", true}, {"layers", 3}},
          Json{{"attention", {run(part, "key_only"), "softmax"}}, {"parallel_residual", true}, {"norm", "rmsnorm"}},
          Json{{"attention", run(part, "diff_v1")}, {"norm_gate", 4}, {"bias", false}},
          Json{{"attention", run(part, "value_residual")}, {"registers", 2}, {"init", "gpt2"}}})
      out.push_back(with(more, {{"context", context}}));
  return out;
}

TEST(QkSource, GradientsAreThoseOfDifferences) {
  for (const Json& changes : models(3)) gradients::check_gradients(changes);
  gradients::check_gradients({{"context", 9}, {"attention", {{"qk_source", "random"}, {"window", 2}}}, {"layers", 3}},
                             4);
}

TEST(QkSource, DocumentsAreKeptApart) {
  const auto backend = make_cpu_backend();
  for (const Json& changes : models(6))
    if (!changes.contains("registers"))
      gradients::GradientCheck(*backend, gradients::small_model(changes), 6, {0, 0, 0, 3, 3, 3, 0, 1, 1, 1, 1, 5})
          .run();
}

TEST(QkSource, DecodingIsTheWholePass) {
  for (const Json& changes : models(decoding::kContext)) decoding::check_decoding(changes, {DType::kF32});
}

TEST(QkSource, IsTheSameBitsWhenItRunsAgain) {
  for (const Json& changes : models(7)) {
    SCOPED_TRACE(changes.dump());
    const ModelConfig config = gradients::small_model(changes);
    const auto want = gradients::bits_of_step(config, Recompute::kNone);
    EXPECT_EQ(gradients::bits_of_step(config, Recompute::kMlp), want);
    EXPECT_EQ(gradients::bits_of_step(config, Recompute::kBlock), want);
  }
}

TEST(QkSource, OfTheHiddenStateIsOrdinaryAttention) {
  const auto bits = [](const Json& attention) {
    return gradients::bits_of_step(gradients::small_model({{"attention", attention}}), Recompute::kNone);
  };
  EXPECT_EQ(bits({"softmax", {{"type", "softmax"}, {"qk_source", "hidden"}}}), bits("softmax"));
}

// A step's loss, and the gradient of every parameter.
std::pair<double, std::vector<Values>> step_of(const Json& changes, const std::vector<int32_t>& tokens, DType act) {
  const auto backend = make_cpu_backend();
  Transformer model = gradients::scattered_model(*backend, gradients::small_model(changes), act);
  const std::vector<int32_t> targets = gradients::random_tokens(1, kBatch * kT);
  std::pair<double, std::vector<Values>> out;
  out.first = model.forward_backward({tokens.data(), targets.data(), kBatch, kT}, 1, false);
  for (const ParamSpec& spec : model.params().specs()) out.second.push_back(gradient(model, spec.name));
  return out;
}

void expect_same_step(const Json& changes, const Json& ordinary, const std::vector<int32_t>& tokens) {
  const auto found = step_of(changes, tokens, DType::kF64), expected = step_of(ordinary, tokens, DType::kF64);
  EXPECT_NEAR(found.first, expected.first, 1e-12 * expected.first);
  ASSERT_EQ(found.second.size(), expected.second.size());
  for (size_t i = 0; i < found.second.size(); ++i) EXPECT_LE(distance(found.second[i], expected.second[i]), 1e-11) << i;
}

// Sequences that are the text themselves.
TEST(QkSource, OfTheBatchsOwnTextIsOrdinaryAttention) {
  const std::vector<int32_t> text = gradients::random_tokens(7, kT);
  std::vector<int32_t> tokens = text;
  tokens.insert(tokens.end(), text.begin(), text.end());
  for (const char* type : {"softmax", "vga", "key_only"}) {
    const Json base = {{"context", kT}, {"position", "rope"}, {"layers", 3}};
    expect_same_step(with(base, {{"attention", with({{"type", type}}, text_of(text))}}),
                     with(base, {{"attention", type}}), tokens);
    expect_same_step(with(base, {{"attention", {type, with({{"type", type}}, text_of(text))}}}),
                     with(base, {{"attention", type}}), tokens);
  }
}

// In the first layer the embedding is the layer's input.
TEST(QkSource, OfTheEmbeddingInTheFirstLayerIsOrdinaryAttention) {
  const std::vector<int32_t> tokens = gradients::random_tokens(0, kBatch * kT);
  for (const Json& base :
       {Json{{"context", kT}, {"layers", 1}},
        Json{{"context", kT}, {"layers", 1}, {"kv_heads", 1}, {"position", "rope"}, {"norm", "rmsnorm"}}}) {
    const Json embedding = with(base, {{"attention", {{"qk_source", "embedding"}}}});
    expect_same_step(embedding, base, tokens);
    EXPECT_EQ(step_of(embedding, tokens, DType::kF32).first, step_of(base, tokens, DType::kF32).first);
  }
}

// Rows of queries and keys, [B, T, columns], and the values' of a layer.
struct Rows {
  Values q, k, v;
};

Rows rows_of(Transformer& model, int64_t at, const std::vector<int32_t>& tokens) {
  Rows out;
  model.forward({tokens.data(), nullptr, kBatch, kT}, [&](const Pass& pass, int64_t layer) {
    EXPECT_EQ(pass.B, kBatch);
    if (layer != at) return;
    const Heads heads = model.blocks()[size_t(layer)].attention().heads(pass);
    out = {values_of(heads.q), values_of(heads.k), values_of(heads.v)};
  });
  return out;
}

Transformer model_of(Backend& backend, const Json& attention, int64_t layers = 2) {
  const ModelConfig config =
      gradients::small_model({{"context", kT}, {"attention", attention}, {"layers", layers}, {"position", "none"}});
  return gradients::scattered_model(backend, config, DType::kF64);
}

TEST(QkSource, OfAStreamIsTheSameForAllSequencesAndBatches) {
  const auto backend = make_cpu_backend();
  for (const Json& attention : {Json{{"qk_source", "random"}}, text_of(gradients::random_tokens(7, kT))})
    for (const int64_t layer : {0, 1}) {
      Transformer model = model_of(*backend, attention);
      const Rows rows = rows_of(model, layer, gradients::random_tokens(0, kBatch * kT));
      const Rows others = rows_of(model, layer, gradients::random_tokens(1, kBatch * kT));
      const size_t half = rows.q.size() / 2;
      EXPECT_EQ(Values(rows.q.begin(), rows.q.begin() + int64_t(half)),
                Values(rows.q.begin() + int64_t(half), rows.q.end()));
      EXPECT_EQ(rows.q, others.q);
      EXPECT_EQ(rows.k, others.k);
      EXPECT_NE(rows.v, others.v);
    }
  const auto q_of_seed = [&](int64_t seed) {
    Transformer model = model_of(*backend, {{"qk_source", {{"type", "random"}, {"seed", seed}}}});
    return rows_of(model, 0, gradients::random_tokens(0, kBatch * kT)).q;
  };
  EXPECT_EQ(q_of_seed(3), q_of_seed(3));
  EXPECT_NE(q_of_seed(3), q_of_seed(4));
}

// The second layer's, by plain loops: its norm of the embedding, its rows of the weight.
TEST(QkSource, OfTheEmbeddingIsTheLayersNormAndProjectionOfIt) {
  const auto backend = make_cpu_backend();
  Transformer model = model_of(*backend, {{"qk_source", "embedding"}});
  const std::vector<int32_t> tokens = gradients::random_tokens(0, kBatch * kT);
  const Rows rows = rows_of(model, 1, tokens);
  const Values table = parameter(model, "embedding.token.weight"), gain = parameter(model, "blocks.1.norm1.weight"),
               shift = parameter(model, "blocks.1.norm1.bias"), W = parameter(model, "blocks.1.attention.qkv.weight"),
               bias = parameter(model, "blocks.1.attention.qkv.bias");
  const size_t C = gain.size(), columns = rows.q.size() / tokens.size();
  for (size_t n = 0; n < tokens.size(); ++n) {
    const double* e = &table[size_t(tokens[n]) * C];
    double mean = 0, square = 0;
    for (size_t c = 0; c < C; ++c) mean += e[c] / double(C);
    for (size_t c = 0; c < C; ++c) square += (e[c] - mean) * (e[c] - mean) / double(C);
    for (size_t out = 0; out < 2 * columns; ++out) {
      double sum = bias[out];
      for (size_t c = 0; c < C; ++c)
        sum += W[out * C + c] * ((e[c] - mean) / std::sqrt(square + model.config().norm_epsilon) * gain[c] + shift[c]);
      const double found = out < columns ? rows.q[n * columns + out] : rows.k[n * columns + out - columns];
      ASSERT_NEAR(found, sum, 1e-11) << n << " " << out;
    }
  }
}

// ---- what is looked at ----------------------------------------------------------------------------------------------

// Sequences that are all the same text.
class OneText final : public DataSource {
 public:
  explicit OneText(std::vector<int32_t> text) : DataSource(std::ssize(text)), text_(std::move(text)) {}
  int64_t vocab_size_needed() const override { return gradients::kVocab; }
  int64_t sequences_per_epoch() const override { return 4; }
  void fill(int64_t, int64_t count, int32_t* tokens, int32_t* targets) const override {
    for (int64_t s = 0; s < count; ++s)
      for (size_t t = 0; t < text_.size(); ++t) *tokens++ = text_[t], *targets++ = text_[(t + 1) % text_.size()];
  }
  std::string describe() const override { return "one text"; }
  std::string identity() const override { return describe(); }

 private:
  std::vector<int32_t> text_;
};

// Where ordinary attention computes the same, instruments say the same of both.
// With the batch's own text as the stream all that instruments say is what they say of ordinary attention.
void check_instruments(const Json& ordinary_attention) {
  SCOPED_TRACE(ordinary_attention.dump());
  const auto backend = make_cpu_backend();
  const std::vector<int32_t> text = gradients::random_tokens(7, kT);
  const OneText source(text);
  const AnalysisOptions options = {.sequences = 4, .thresholds = {0.2}, .map_positions = 4};
  const Json attention = with(ordinary_attention, text_of(text));
  Transformer fixed = model_of(*backend, attention), ordinary = model_of(*backend, ordinary_attention);
  Analysis a = Analyzer(fixed, source, options).run(0), b = Analyzer(ordinary, source, options).run(0);
  EXPECT_NEAR(a.loss, b.loss, 1e-12);
  ASSERT_EQ(a.curves.size(), b.curves.size());
  for (size_t h = 0; h < a.heads.size(); ++h) {
    for (const char* key : {"entropy", "value_norm_ratio", "stable_rank", "first_token_share"})
      EXPECT_NEAR(a.heads[h][key], b.heads[h][key], 1e-5) << key;
    if (b.has(Needs::kGate)) {
      EXPECT_NEAR(a.heads[h]["gate_mean"], b.heads[h]["gate_mean"], 1e-5);
    }
    EXPECT_LE(distance(a.curves[h].attention, b.curves[h].attention), 1e-6);
    EXPECT_LE(distance(a.curves[h].gate, b.curves[h].gate), 1e-6);
  }
  for (size_t i = 0; i < a.residual_norm.size(); ++i) EXPECT_LE(distance(a.residual_norm[i], b.residual_norm[i]), 1e-5);
  Prober fixed_prober(fixed, source, 4), prober(ordinary, source, 4);
  const ProbeResult of_fixed = fixed_prober.run(), of_ordinary = prober.run();
  for (size_t h = 0; h < of_ordinary.heads.size(); ++h) {
    EXPECT_NEAR(of_fixed.heads[h].sink_attention, of_ordinary.heads[h].sink_attention, 1e-6);
    EXPECT_NEAR(of_fixed.heads[h].sink_logit_gap, of_ordinary.heads[h].sink_logit_gap, 1e-5);
    EXPECT_NEAR(of_fixed.heads[h].wo_value_norm_rest, of_ordinary.heads[h].wo_value_norm_rest, 1e-5);
    EXPECT_NEAR(of_fixed.heads[h].residual_norm_rest, of_ordinary.heads[h].residual_norm_rest, 1e-5);
  }
  const Json of_stream = fixed_prober.attention_map(0, 4)["maps"], plain = prober.attention_map(0, 4)["maps"];
  ASSERT_EQ(of_stream.size(), 4u);
  for (size_t i = 0; i < plain.size(); ++i)
    EXPECT_NEAR(of_stream[i]["weights"][1][0].get<double>(), plain[i]["weights"][1][0].get<double>(), 1e-3);
}

TEST(QkSource, InstrumentsSeeTheBatchAlone) {
  check_instruments({{"type", "vga"}});
  check_instruments({{"type", "custom"}, {"core", "flow"}});
}

TEST(QkSource, QuantizersTakeTheStreamToo) {
  const auto backend = make_cpu_backend();
  const RandomTokens data(Split::kHeldOut, kT, gradients::kVocab, 3);
  for (const Json& attention :
       {Json{{"qk_source", "random"}}, Json{{"qk_source", "embedding"}}, text_of(gradients::random_tokens(7, kT))}) {
    Transformer model = model_of(*backend, attention);
    QuantizationOptions options;
    options.calibration_batches = 2;
    options.all_activations = true;
    Quantizer quantizer(model, options);
    quantizer.calibrate(data);
    const double plain = quantizer.loss(data, 4);
    EXPECT_NEAR(quantizer.loss(data, 4, {.activations = true}), plain, 0.2 * plain);
  }
  Transformer model = model_of(*backend, {{"qk_source", "embedding"}});
  expect_contains(user_error_of([&] { Quantizer(model, {.percentile = 99.9}); }),
                  {"--activations percentile", "minmax"});
}

// ---- what is refused, and what is written ---------------------------------------------------------------------------

TEST(QkSource, SaysWhatDoesNotGoTogether) {
  const auto refusal = [](const Json& changes) { return user_error_of([&] { gradients::small_model(changes); }); };
  expect_contains(refusal({{"attention", {{"qk_source", "randm"}}}}), {"qk_source", "did you mean \"random\"?"});
  expect_contains(refusal({{"attention", {{"type", "affine"}, {"qk_source", "random"}}}}),
                  {"model.attention.qk_source = random runs a fixed sequence beside those of the batch"});
  expect_contains(refusal({{"attention", {{"qk_source", "random"}}}, {"residual", {{"outlier_loss", 0.1}}}}),
                  {"means are taken over all of them by model.residual"});
  expect_contains(refusal({{"attention", text_of({1, 2})}}),
                  {"qk_source.tokens are 2, but model.context = 3 positions need one each"});
  expect_contains(refusal({{"attention", text_of({1, 2, 11})}}), {"has the token 11, but model.vocab_size is 11"});
  expect_contains(refusal({{"attention", {{"qk_source", {{"type", "text"}, {"tokens", {1, 2.5, 3}}}}}}}),
                  {"tokens[1] must be an integer"});
  expect_contains(refusal({{"attention", {{{"qk_source", "random"}}, text_of({1, 2, 3})}}}),
                  {"differs from another layer's: a model has one fixed stream"});
  expect_contains(refusal({{"attention", {{"qk_source", {{"type", "random"}, {"tokens", {1}}}}}}}),
                  {"tokens applies only when", "type"});
  const auto backend = make_cpu_backend();
  expect_contains(user_error_of([&] {
                    const ModelConfig config = gradients::small_model({{"attention", {{"qk_source", "text"}}}});
                    Transformer(*backend, config, {});
                  }),
                  {"model.attention.qk_source.tokens are not there"});
}

}  // namespace
}  // namespace sluice
