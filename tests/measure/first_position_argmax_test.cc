// The share of queries whose largest weight is on position 0, on weights that are written down and on a model's.
#include "measure/figures/first_position_argmax.h"

#include <gtest/gtest.h>

#include <cmath>

#include "data/sources/random_tokens.h"
#include "measure/analyzer.h"
#include "model/parity.h"

namespace sluice {
namespace {

// Of four queries; the first sees itself alone.
double share_of(std::vector<double> rows, std::vector<double> key_bias = {}) {
  const std::unique_ptr<HeadMeter> meter = first_position_argmax().meter();
  const HeadWeights weights{std::move(rows), std::move(key_bias)};
  meter->add(WeightRows(weights, true, 4));
  return meter->value();
}

TEST(FirstPositionArgmax, CountsTheQueriesThatLookAtPositionZeroMost) {
  EXPECT_EQ(share_of({1, 0, 0, 0,    //
                      .6, .4, 0, 0,  // there
                      .3, .4, .3, 0, .4, .3, .2, .1}),
            2.0 / 3);
  EXPECT_EQ(share_of({1, 0, 0, 0, .4, .6, 0, 0, .1, .2, .7, 0, .1, .2, .3, .4}), 0);
  EXPECT_EQ(share_of({0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0}), 1);
}

TEST(FirstPositionArgmax, LeavesOutRowsOfZerosAndSeesTheBiasKey) {
  EXPECT_EQ(share_of({1, 0, 0, 0, 0, 0, 0, 0, .3, .1, .1, 0, .1, .2, 0, 0}), 0.5);
  EXPECT_EQ(share_of({1, 0, 0, 0, .3, .2, 0, 0, .3, .1, .1, 0, .4, .2, 0, 0}, {0, .5, .5, .3}), 1.0 / 3);
  EXPECT_TRUE(std::isnan(share_of({1, 0, 0, 0, NAN, 0, 0, 0, .3, .1, .1, 0, .1, .2, 0, 0})));
  EXPECT_TRUE(std::isnan(share_of({1, 0, 0, 0, .3, .2, 0, 0, .3, .1, .1, 0, .4, .2, 0, 0}, {0, .5, NAN, .3})));
  EXPECT_TRUE(std::isnan(share_of(std::vector<double>(16)))) << "no row has a largest weight";
}

// Against the model's own weights; the figure is everywhere where analyses are looked at.
TEST(FirstPositionArgmax, IsAFigureOfHeadsAndOfTheModel) {
  constexpr int64_t kT = 12, kSequences = 3;
  const auto backend = make_cpu_backend();
  const ModelConfig config = parity::model_config({{"vocab_size", 11},
                                                   {"context", kT},
                                                   {"layers", 2},
                                                   {"heads", 2},
                                                   {"width", 16},
                                                   {"attention", Json::parse(R"(["softmax", "key_bias"])")}});
  Transformer model(*backend, config, {.act = DType::kF32, .max_batch = 1});
  model.initialise(3);
  const RandomTokens source(Split::kHeldOut, kT, 11, 7);
  AnalysisOptions options;
  options.sequences = kSequences;
  const Analysis analysis = Analyzer(model, source, options).run(0);

  std::vector<double> counts(4);
  BatchReader batches(1);
  batches.for_each(source, 0, kSequences, [&](const Batch& batch) {
    model.forward(batch, [&](const Pass& pass, int64_t layer) {
      const AttentionLayer& attention = model.blocks()[size_t(layer)].attention();
      const auto weights = attention.weights()->read(pass, attention.heads(pass));
      for (int64_t h = 0; h < 2; ++h) {
        const HeadWeights one = weights->of(0, h, kT);
        for (int64_t i = 1; i < kT; ++i) {
          const double first = one.rows[size_t(i * kT)];
          bool most = one.key_bias.empty() || one.key_bias[size_t(i)] <= first;
          for (int64_t j = 1; j <= i; ++j) most = most && one.rows[size_t(i * kT + j)] <= first;
          counts[size_t(layer * 2 + h)] += most;
        }
      }
    });
  });
  const std::string key = "first_position_argmax_share";
  const Json json = analysis.json();
  double mean = 0;
  for (size_t head = 0; head < 4; ++head) {
    const double want = counts[head] / double(kSequences * (kT - 1));
    EXPECT_DOUBLE_EQ(json["heads"][head].at(key).get<double>(), want);
    mean += want / 4;
  }
  EXPECT_NEAR(json["summary"].at(key).get<double>(), mean, 1e-15);
  EXPECT_EQ(json["tensors"]["heads"].at(key), "attention weights a");
  EXPECT_NE(figures_reference().find("| `" + key + "` |"), std::string::npos);
  EXPECT_TRUE(analysis.lines()[0].contains(key));
  bool described = false;
  for (const Json& figure : json["figures"]) described |= figure["key"] == key && figure["title"] == "argmax first";
  EXPECT_TRUE(described);
}

}  // namespace
}  // namespace sluice
