// What the stage unit_length promises beyond what attention_parts_test.cc asks of every part; and the preset threshold.
#include "model/attention/stages/queries_and_keys/unit_length.h"

#include <gtest/gtest.h>

#include "model/gradient_check.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int64_t kT = 6, kHeads = 4, kKv = 2;

// body(attention, pass) after each layer of a model with random weights.
template <class Body>
void look(const Json& changes, Body body) {
  const auto backend = make_cpu_backend();
  Json json = {{"context", kT}, {"heads", kHeads}, {"kv_heads", kKv}, {"norm_epsilon", 1e-12}};
  json.update(changes);
  Transformer model(*backend, gradients::small_model(json), {.act = DType::kF64, .max_batch = gradients::kBatch});
  model.initialise(9);
  const std::vector<int32_t> tokens = gradients::random_tokens(0, gradients::kBatch * kT);
  model.forward({tokens.data(), nullptr, gradients::kBatch, kT},
                [&](const Pass& pass, int64_t layer) { body(model.blocks()[size_t(layer)].attention(), pass); });
}

TEST(UnitLength, QueriesAndKeysHaveTheLength1) {
  constexpr size_t kD = 4;
  for (const char* position : {"learned", "rope"})
    look({{"head_size", kD}, {"position", position}, {"attention", {{"unit_length", true}}}},
         [&](const AttentionLayer& attention, const Pass& pass) {
           for (const Tensor& side : {attention.heads(pass).q, attention.heads(pass).k}) {
             const Values x = values_of(side);
             for (size_t head = 0; head < x.size(); head += kD) {
               double square = 0;
               for (size_t i = head; i < head + kD; ++i) square += x[i] * x[i];
               EXPECT_NEAR(square, 1, 1e-9) << position;
             }
           }
         });
}

// No sink by construction: what is not above its row's threshold has no weight, and a row may be without any.
TEST(UnitLength, WithAThresholdRowsMayBeEmpty) {
  look({{"attention", {{"type", "threshold"}, {"score", {{"type", "threshold"}, {"beta", 100.0}}}}}},
       [](const AttentionLayer& attention, const Pass& pass) {
         const Values results = values_of(attention.results(pass));
         const size_t row = results.size() / size_t(gradients::kBatch * kT);
         for (size_t i = 0; i < results.size(); ++i) EXPECT_TRUE(i / row % kT == 0 || results[i] == 0) << i;
       });
}

// The first row's threshold is 0, and its weight the square of a cosine, not divided by the root of D.
TEST(UnitLength, OfThePresetThresholdScoresAreCosines) {
  look({{"attention", "threshold"}}, [](const AttentionLayer& attention, const Pass& pass) {
    const Heads heads = attention.heads(pass);
    const Values q = values_of(heads.q), k = values_of(heads.k);
    const auto weights = attention.weights()->read(pass, heads);
    const int64_t D = attention.sizes().D_qk;
    for (int64_t h = 0; h < kHeads; ++h) {
      double cosine = 0;
      for (int64_t d = 0; d < D; ++d) cosine += q[size_t(h * D + d)] * k[size_t(h / (kHeads / kKv) * D + d)];
      EXPECT_LE(std::fabs(cosine), 1 + 1e-9);
      EXPECT_NEAR(weights->of(0, h, kT).rows[0], cosine > 0 ? cosine * cosine : 0, 1e-14);
    }
  });
}

TEST(UnitLength, GoesWithNormsRopeAndOtherScores) {
  for (const char* score : {"softmax", "threshold", "elastic_softmax"})
    gradients::check_gradients(
        {{"position", "rope"}, {"qk_norm", true}, {"attention", {{"score", score}, {"unit_length", true}}}});
}

}  // namespace
}  // namespace sluice
