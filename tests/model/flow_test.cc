// What the core flow promises beyond what attention_parts_test.cc asks of every part.
#include "model/attention/cores/flow.h"

#include <gtest/gtest.h>

#include "base/error_text.h"
#include "model/gradient_check.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int64_t kT = 7, kBatch = 2, kH = 2, kD = 6;

// Looks at every layer's heads of a run over two sequences.
template <class Look>
void look_at_layers(const std::vector<int32_t>& tokens, bool documents, Look look) {
  const auto backend = make_cpu_backend();
  const ModelConfig config = gradients::small_model(
      {{"context", kT}, {"kv_heads", 1}, {"attention", Json::parse(R"({"type": "custom", "core": "flow"})")}});
  Transformer model(*backend, config, {.act = DType::kF64, .max_batch = kBatch});
  model.initialise(9);
  const std::vector<int32_t> starts = {0, 0, 2, 2, 2, 2, 2, 0, 0, 0, 0, 4, 4, 6};
  model.forward({tokens.data(), nullptr, kBatch, kT, documents ? starts.data() : nullptr}, [&](const Pass& pass,
                                                                                               int64_t layer) {
    const AttentionLayer& attention = model.blocks()[size_t(layer)].attention();
    look(pass, attention, attention.heads(pass), [&](int64_t n) { return documents ? int64_t(starts[size_t(n)]) : 0; });
  });
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The published formula with whole sums, for one head: weights [kT, kT] of the values.
std::vector<double> reference(const Values& q, const Values& k, int64_t b, int64_t h, int64_t first_row, int64_t end) {
  const double e = 1e-6;
  const auto a = [&](int64_t i, int64_t d) { return sigmoid(q[size_t(((b * kT + i) * kH + h) * kD + d)]); };
  const auto c = [&](int64_t j, int64_t d) { return sigmoid(k[size_t((b * kT + j) * kD + d)]); };
  std::vector<double> I(kT), O(kT), x(kT), open(kT), weights(kT * kT);
  const auto flow = [&](int64_t i, auto own, auto summed) {
    double sum = 0;
    for (int64_t d = 0; d < kD; ++d) {
      double total = e;
      for (int64_t j = first_row; j <= i; ++j) total += summed(j, d);
      sum += (own(i, d) + e) * total;
    }
    return sum;
  };
  const auto n = [&](int64_t i) { return double(i - first_row + 1); };
  for (int64_t i = first_row; i < end; ++i) I[size_t(i)] = n(i) / flow(i, a, c), O[size_t(i)] = n(i) / flow(i, c, a);
  for (int64_t i = first_row; i < end; ++i) {
    open[size_t(i)] = sigmoid(flow(i, a, [&](int64_t j, int64_t d) { return c(j, d) * O[size_t(j)]; }) / n(i));
    const double w = flow(i, c, [&](int64_t j, int64_t d) { return a(j, d) * I[size_t(j)]; }) / n(i);
    x[size_t(i)] = std::exp(std::clamp(w, -5.0, 5.0));
  }
  double mass = 0;
  for (int64_t j = first_row; j < end; ++j) {
    mass += x[size_t(j)];
    for (int64_t i = j; i < end; ++i) {
      double product = 0;
      for (int64_t d = 0; d < kD; ++d) product += a(i, d) * I[size_t(i)] / n(i) * c(j, d);
      weights[size_t(i * kT + j)] = open[size_t(i)] * product * n(j) * x[size_t(j)] / mass;
    }
  }
  return weights;
}

TEST(Flow, IsThePublishedFormulaAndShowsItsWeights) {
  for (const bool documents : {false, true})
    look_at_layers(gradients::random_tokens(0, kBatch * kT), documents,
                   [&](const Pass& pass, const AttentionLayer& attention, const Heads& heads, const auto& first) {
                     EXPECT_FALSE(attention.weights()->normalised());
                     const Values q = values_of(heads.q), k = values_of(heads.k), v = values_of(heads.v),
                                  out = values_of(heads.out);
                     const auto shown = attention.weights()->read(pass, heads);
                     for (int64_t b = 0; b < kBatch; ++b)
                       for (int64_t h = 0; h < kH; ++h) {
                         std::vector<double> want(kT * kT);
                         for (int64_t from = 0; from < kT;) {
                           int64_t end = from + 1;
                           while (end < kT && first(b * kT + end) == from) ++end;
                           const std::vector<double> part = reference(q, k, b, h, from, end);
                           for (size_t i = 0; i < want.size(); ++i) want[i] += part[i];
                           from = end;
                         }
                         const HeadWeights weights = shown->of(b, h, kT);
                         for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(weights.rows[i], want[i], 1e-13);
                         for (int64_t i = 0; i < kT; ++i)
                           for (int64_t d = 0; d < kD; ++d) {
                             double sum = 0;
                             for (int64_t j = 0; j < kT; ++j)
                               sum += want[size_t(i * kT + j)] * v[size_t((b * kT + j) * kD + d)];
                             EXPECT_NEAR(out[size_t(((b * kT + i) * kH + h) * kD + d)], sum, 1e-13);
                           }
                       }
                   });
}

// Alone, a row gives all that flows out to itself and takes it: up to epsilon, sigmoid(1) v.
TEST(Flow, TheFirstRowIsItsOwnValueTimesSigmoidOfOne) {
  look_at_layers(gradients::random_tokens(0, kBatch * kT), false,
                 [&](const Pass&, const AttentionLayer&, const Heads& heads, const auto&) {
                   const Values v = values_of(heads.v), out = values_of(heads.out);
                   for (int64_t b = 0; b < kBatch; ++b)
                     for (int64_t c = 0; c < kH * kD; ++c)
                       EXPECT_NEAR(out[size_t(b * kT * kH * kD + c)], sigmoid(1) * v[size_t(b * kT * kD + c % kD)],
                                   1e-4);
                 });
}

TEST(Flow, NoTokenChangesABitBeforeIt) {
  std::vector<int32_t> tokens = gradients::random_tokens(0, kBatch * kT), changed = tokens;
  changed[4] = (changed[4] + 1) % int32_t(gradients::kVocab);
  std::vector<Values> found[2];
  for (int i = 0; i < 2; ++i)
    look_at_layers(i == 0 ? tokens : changed, false,
                   [&](const Pass&, const AttentionLayer&, const Heads& heads, const auto&) {
                     found[i].push_back(values_of(heads.out));
                   });
  for (size_t layer = 0; layer < found[0].size(); ++layer)
    for (int64_t n = 0; n < kBatch * kT; ++n) {
      bool same = true;
      for (int64_t c = 0; c < kH * kD; ++c)
        same &= found[0][layer][size_t(n * kH * kD + c)] == found[1][layer][size_t(n * kH * kD + c)];
      EXPECT_EQ(same, n < 4 || n >= kT) << n;
    }
}

TEST(Flow, RefusesRopeAndWhatBelongsToScores) {
  const auto refusal = [](const Json& changes) { return user_error_of([&] { gradients::small_model(changes); }); };
  expect_contains(refusal({{"position", "rope"}, {"attention", {{"core", "flow"}}}}),
                  {"model.attention.core = flow", "model.position = learned or none, not rope"});
  expect_contains(refusal({{"attention", {{"core", "flow"}, {"score", "relu"}}}}),
                  {"model.attention.score applies only when model.attention.core is \"tiles\""});
}

}  // namespace
}  // namespace sluice
