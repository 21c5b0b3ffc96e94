// What the core linear, its feature maps, and the norms and gates of its published blocks promise beyond what
// attention_parts_test.cc asks of every part.
#include "model/attention/cores/linear.h"

#include <gtest/gtest.h>

#include "base/error_text.h"
#include "model/decoder_check.h"
#include "model/gradient_check.h"

namespace sluice {
namespace {

using namespace parity;

// What instruments see is what the core computed: weights lam^(i - j) q_i . k_j that make the results of the values,
// with the slopes of head and layer.
TEST(Linear, ShowsTheWeightsOfItsResults) {
  constexpr int64_t kT = 6, kBatch = 2, kLayers = 3;
  const auto backend = make_cpu_backend();
  const ModelConfig config = gradients::small_model(
      {{"context", kT}, {"layers", kLayers}, {"kv_heads", 1}, {"position", "rope"}, {"attention", "lightning"}});
  Transformer model(*backend, config, {.act = DType::kF64, .max_batch = kBatch});
  model.initialise(9);
  const std::vector<int32_t> tokens = gradients::random_tokens(0, kBatch * kT),
                             starts = {0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 0, 5};
  const auto look = [&](const Pass& pass, int64_t layer, bool documents) {
    const AttentionLayer& attention = model.blocks()[size_t(layer)].attention();
    EXPECT_FALSE(attention.weights()->normalised());
    const Heads heads = attention.heads(pass);
    const auto weights = attention.weights()->read(pass, heads);
    const Values q = values_of(heads.q), k = values_of(heads.k), v = values_of(heads.v), out = values_of(heads.out);
    const int64_t rows = kBatch * 2 * kT, D = attention.sizes().D_v;
    Arena arena(*backend, 2 * size_t(rows) * sizeof(double));
    const Tensor first = arena.at(0, DType::kF64, {kBatch, 2, kT}),
                 gap = arena.at(size_t(rows) * sizeof(double), DType::kF64, {kBatch, 2, kT});
    attention.weights()->probe(pass, heads, first, gap);
    const Values shown = values_of(first), gaps = values_of(gap);
    for (int64_t b = 0; b < kBatch; ++b)
      for (int64_t h = 0; h < 2; ++h) {
        const double slope = std::exp2(-4.0 * double(h + 1)) * (1 - double(layer) / double(kLayers - 1) + 1e-5);
        const HeadWeights of_head = weights->of(b, h, kT);
        for (int64_t i = 0; i < kT; ++i) {
          const double* row = of_head.rows.data() + i * kT;
          const int64_t from = documents ? starts[size_t(b * kT + i)] : 0, at = (b * 2 + h) * kT + i;
          std::vector<double> products;
          for (int64_t j = 0; j < kT; ++j) {
            double product = 0;
            for (int64_t d = 0; d < D; ++d)
              product += q[size_t(((b * kT + i) * 2 + h) * D + d)] * k[size_t((b * kT + j) * D + d)];
            products.push_back(product);
            EXPECT_NEAR(row[j], j < from || j > i ? 0 : std::exp(-slope * double(i - j)) * product, 1e-13);
          }
          EXPECT_NEAR(shown[size_t(at)], row[from], 1e-13);
          double between = 0;
          for (int64_t j = from + 1; j < i; ++j) between += products[size_t(j)] / double(i - from - 1);
          EXPECT_NEAR(gaps[size_t(at)], i - from > 1 ? products[size_t(from)] - between : 0, 1e-13);
          for (int64_t c = 0; c < D; ++c) {
            double result = 0;
            for (int64_t j = 0; j < kT; ++j) result += row[j] * v[size_t((b * kT + j) * D + c)];
            EXPECT_NEAR(out[size_t(((b * kT + i) * 2 + h) * D + c)], result, 1e-13);
          }
        }
      }
  };
  for (const bool documents : {false, true})
    model.forward({tokens.data(), nullptr, kBatch, kT, documents ? starts.data() : nullptr},
                  [&](const Pass& pass, int64_t layer) { look(pass, layer, documents); });
}

// The published blocks and what they are made of, in other combinations.
TEST(Linear, BlocksHaveTheirGradientsAndDecodeWhatTheyCompute) {
  for (const char* attention :
       {R"("lightning")", R"("transnormer")", R"({"type": "lightning", "decay": "none", "value_map": "silu"})",
        R"({"type": "transnormer", "decay": "head", "feature_map": "relu"})", R"({"output_norm": "layernorm_of_all"})",
        R"({"output_norm": "simple_rmsnorm_of_all", "reads": "value"})",
        R"({"gate": {"reads": "value", "activation": "none", "bias": true, "site": "source"}})",
        R"({"gate": {"reads": "hidden_head", "activation": "none"}})",
        R"({"gate": {"reads": "hidden_and_output", "grain": "element", "rank": -1, "rank_activation": "none"}})",
        R"({"type": "transnormer", "output_norm": "none", "reads": "output", "grain": "head"})"})
    for (const char* position : {"learned", "rope"}) {
      Json changes = {{"attention", Json::parse(attention)}, {"kv_heads", 1}, {"position", position}};
      SCOPED_TRACE(changes.dump());
      if (changes["attention"].is_object() && changes["attention"].contains("gate") &&
          changes["attention"]["gate"]["reads"] == "hidden_head")
        changes["kv_heads"] = 2;
      gradients::check_gradients(changes);
      decoding::check_decoding(changes);
      changes["context"] = 7;
      const ModelConfig config = gradients::small_model(changes);
      EXPECT_EQ(gradients::bits_of_step(config, Recompute::kBlock), gradients::bits_of_step(config, Recompute::kNone));
    }
}

TEST(Linear, KeepsDocumentsApartInItsBlocks) {
  for (const char* attention : {"lightning", "transnormer"}) {
    const auto backend = make_cpu_backend();
    const ModelConfig config = gradients::small_model({{"attention", attention}, {"context", 6}});
    gradients::GradientCheck(*backend, config, 6, {0, 0, 0, 3, 3, 3, 0, 1, 1, 1, 1, 5}).run();
  }
}

TEST(Linear, RefusesWhatBelongsToScores) {
  const auto refusal = [](const char* attention) {
    return user_error_of([&] { gradients::small_model({{"attention", Json::parse(attention)}}); });
  };
  for (const char* key : {"key_bias", "key_value_bias"})
    expect_contains(refusal(fmt::format(R"({{"type": "lightning", "{}": true}})", key).c_str()),
                    {"model.attention." + std::string(key) + " applies only when model.attention.core is \"tiles\""});
  expect_contains(refusal(R"({"type": "transnormer", "score": "relu"})"),
                  {"model.attention.score applies only when model.attention.core is \"tiles\""});
  expect_contains(refusal(R"({"core": "linear", "window": 3})"),
                  {"model.attention.window applies only when model.attention.core is \"tiles\""});
  expect_contains(refusal(R"({"decay": "head"})"), {"model.attention.decay applies only when", "\"linear\""});
  expect_contains(refusal(R"({"gate": {"reads": "hidden", "rank_activation": "none"}})"),
                  {"model.attention.gate.rank_activation = none is between the matrices of a rank", "gate.rank is 0"});
  expect_contains(refusal(R"({"gate": {"reads": "hidden", "rank": -2}})"), {"model.attention.gate.rank"});
}

// A gate without sigmoid opens nothing by shares: instruments are shown none.
TEST(Linear, GatesWithoutSigmoidHaveNoOpenings) {
  const auto backend = make_cpu_backend();
  for (const char* attention : {"lightning", "transnormer"}) {
    const Transformer model(*backend, gradients::small_model({{"attention", attention}}), {.allocate = false});
    EXPECT_EQ(model.blocks()[0].attention().opener() != nullptr, std::string(attention) == "lightning");
  }
}

// Each row of the results has a mean square of 1, over all heads; with LayerNorm a mean of 0 too.
TEST(Linear, NormsOfAllHeadsAreOverAllFeatures) {
  constexpr int64_t kT = 5;
  const auto backend = make_cpu_backend();
  for (const char* kind : {"simple_rmsnorm_of_all", "layernorm_of_all"}) {
    const ModelConfig config = gradients::small_model(
        {{"context", kT}, {"norm_epsilon", 1e-30}, {"attention", {{"type", "softmax"}, {"output_norm", kind}}}});
    Transformer model(*backend, config, {.act = DType::kF64, .max_batch = 1});
    model.initialise(3);
    const std::vector<int32_t> tokens = gradients::random_tokens(0, kT);
    model.forward({tokens.data(), nullptr, 1, kT, nullptr}, [&](const Pass& pass, int64_t layer) {
      const Values results = values_of(model.blocks()[size_t(layer)].attention().results(pass));
      for (int64_t n = 0; n < kT; ++n) {
        double sum = 0, squares = 0;
        for (int64_t c = 0; c < 12; ++c) {
          const double x = results[size_t(n * 12 + c)];
          sum += x, squares += x * x;
        }
        EXPECT_NEAR(squares / 12, 1, 1e-12);
        if (std::string(kind) == "layernorm_of_all") {
          EXPECT_NEAR(sum, 0, 1e-12);
        }
      }
    });
    EXPECT_EQ(model.params().find("blocks.0.attention.output_norm.weight") ? 1 : 0,
              std::string(kind) == "layernorm_of_all" ? 1 : 0);
  }
}

}  // namespace
}  // namespace sluice
