// What the stage affine promises beyond what attention_parts_test.cc asks of every part.
#include "model/attention/stages/affine.h"

#include <gtest/gtest.h>

#include "base/error_text.h"
#include "model/decoder_check.h"
#include "model/gradient_check.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int64_t kT = 6, kBatch = 2, kHeads = 4, kKv = 2, kD = 3, kWidth = 12;
const std::string kAttention = "blocks.0.attention.";

// Two query heads for each key/value head, in double.
class AffineStage : public testing::Test {
 protected:
  Transformer model(const Json& attention, int64_t context = kT) const {
    Transformer model(
        *backend_,
        gradients::small_model({{"context", context}, {"heads", kHeads}, {"kv_heads", kKv}, {"attention", attention}}),
        {.act = DType::kF64, .max_batch = kBatch});
    model.initialise(9);
    return model;
  }
  Transformer affine(const Json& changes, int64_t context = kT) const {
    Json options = {{"type", "linear"}};
    options.update(changes);
    return model({{"affine", options}}, context);
  }

  static void set(Transformer& model, const std::string& name, const std::function<double(size_t, double)>& value) {
    Values values = parameter(model, name);
    for (size_t i = 0; i < values.size(); ++i) values[i] = value(i, values[i]);
    assign(model.params().value(named(model, name)), values);
  }
  static void set_averages(Transformer& model, const Values& values) {
    for (size_t i = 0; i < model.averages().list().size(); ++i) assign(model.averages().value({int(i)}), values);
  }
  // Logits of both signs, some beyond the clip's ends.
  static void spread(Transformer& model) {
    for (int layer = 0; layer < 2; ++layer)
      set(model, fmt::format("blocks.{}.attention.affine.weight", layer), [](size_t, double w) { return 8 * w; });
  }

  Batch batch(int64_t first, int64_t B, int64_t T = kT) const {
    return {&tokens_[size_t(first * T)], &targets_[size_t(first * T)], B, T};
  }
  // body(pass, attention) of the first layer.
  template <class Body>
  void look(Transformer& model, const Batch& batch, Body body) const {
    model.forward(batch, [&](const Pass& pass, int64_t layer) {
      if (layer == 0) body(pass, model.blocks()[0].attention());
    });
  }
  Values results(Transformer& model) const {
    Values out;
    look(model, batch(0, kBatch),
         [&](const Pass& pass, const AttentionLayer& attention) { out = values_of(attention.results(pass)); });
    return out;
  }

  const std::unique_ptr<Backend> backend_ = make_cpu_backend();
  const std::vector<int32_t> tokens_ = gradients::random_tokens(0, kBatch*kT),
                             targets_ = gradients::random_tokens(1, kBatch*kT);
};

TEST_F(AffineStage, IsHalfOfSoftmaxWithoutWeightsAndAnAverageOfAHalf) {
  Transformer half = affine({{"initial", 0.5}});
  set(half, kAttention + "affine.weight", [](size_t, double) { return 0.0; });
  look(half, batch(0, kBatch), [&](const Pass& pass, const AttentionLayer& attention) {
    const Values core = values_of(attention.heads(pass).out), found = values_of(attention.results(pass));
    for (size_t i = 0; i < core.size(); ++i) EXPECT_NEAR(found[i], core[i] / 2, 1e-15);
  });
}

// A feature of the input that is 1 everywhere opens every head wholly.
TEST_F(AffineStage, IsSoftmaxWhereFactorAndAverageAreOne) {
  Transformer open = affine({{"initial", 1.0}});
  set(open, "blocks.0.norm1.weight", [](size_t i, double w) { return i == 0 ? 0.0 : w; });
  set(open, "blocks.0.norm1.bias", [](size_t i, double b) { return i == 0 ? 1.0 : b; });
  set(open, kAttention + "affine.weight", [](size_t i, double) { return i % kWidth == 0 ? 5.0 : 0.0; });
  look(open, batch(0, kBatch), [&](const Pass& pass, const AttentionLayer& attention) {
    const Values core = values_of(attention.heads(pass).out), found = values_of(attention.results(pass));
    for (size_t i = 0; i < core.size(); ++i) EXPECT_NEAR(found[i], core[i], 1e-15);
  });
}

TEST_F(AffineStage, AddsTheAveragesShareOfWhatIsAddedToAllValues) {
  const Values averages = {0.25, -0.5, 2, 0};
  Transformer model = affine(Json::object());
  spread(model), set_averages(model, averages);
  const Values before = results(model);
  const size_t values_begin = size_t((kHeads + kKv) * kD);
  set(model, kAttention + "qkv.bias", [&](size_t i, double b) { return i < values_begin ? b : b + 0.1 * double(i); });
  const Values after = results(model);
  for (size_t i = 0; i < before.size(); ++i) {
    const size_t column = i % (kHeads * kD), head = column / kD, value = head / 2 * kD + column % kD;
    EXPECT_NEAR(after[i] - before[i], averages[head] * 0.1 * double(values_begin + value), 1e-13) << i;
  }
}

// a [N, H] of the first layer, from its logits x w, x the first norm's output.
Values factors_of(Transformer& model, const Batch& batch) {
  Values out;
  const Values weight = parameter(model, kAttention + "affine.weight"),
               gain = parameter(model, "blocks.0.norm1.weight"), bias = parameter(model, "blocks.0.norm1.bias");
  const Pass pass = model.forward(batch);
  const Values stream = values_of(model.stream_before(pass, 0));
  for (int64_t n = 0; n < batch.B * batch.T; ++n) {
    const double* x = stream.data() + n * kWidth;
    double mean = 0, square = 0;
    for (int64_t c = 0; c < kWidth; ++c) mean += x[c] / kWidth;
    for (int64_t c = 0; c < kWidth; ++c) square += (x[c] - mean) * (x[c] - mean) / kWidth;
    for (size_t h = 0; h < size_t(kHeads); ++h) {
      double z = 0;
      for (size_t c = 0; c < size_t(kWidth); ++c)
        z += weight[h * kWidth + c] * ((x[c] - mean) / std::sqrt(square + 1e-5) * gain[c] + bias[c]);
      out.push_back(std::min(1.0, std::max(0.0, 0.1 * z + 0.5)));
    }
  }
  return out;
}

// Sums of a dozen products of numbers of a few units, in double.
constexpr double kRounding = 1e-13;

// ---- what instruments see -------------------------------------------------------------------------------------------

TEST_F(AffineStage, RowsOfWeightsSumToTheAverageByTheRowsLength) {
  const Values averages = {0.25, -0.5, 2, 0};
  Transformer model = affine(Json::object());
  spread(model), set_averages(model, averages);
  look(model, batch(0, kBatch), [&](const Pass& pass, const AttentionLayer& attention) {
    EXPECT_FALSE(attention.weights()->normalised());
    const auto weights = attention.weights()->read(pass, attention.heads(pass));
    double lowest = 0;
    for (int64_t h = 0; h < kHeads; ++h) {
      const HeadWeights one = weights->of(1, h, kT);
      for (int64_t i = 0; i < kT; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < kT; ++j) {
          sum += one.rows[size_t(i * kT + j)], lowest = std::min(lowest, one.rows[size_t(i * kT + j)]);
          EXPECT_TRUE(j <= i || one.rows[size_t(i * kT + j)] == 0) << "a row sees what comes after it";
        }
        EXPECT_NEAR(sum, averages[size_t(h)], kRounding) << h << " " << i;
      }
    }
    EXPECT_LT(lowest, 0);
  });
}

// With m = 0 a row of n_i tokens sums to a_i (1 - n_i / context).
TEST_F(AffineStage, RowsOfWeightsSumToWhatTheContextLeavesByTheContext) {
  Transformer model = affine({{"length", "context"}});
  spread(model);
  const Values factors = factors_of(model, batch(0, kBatch));
  look(model, batch(0, kBatch), [&](const Pass& pass, const AttentionLayer& attention) {
    const auto weights = attention.weights()->read(pass, attention.heads(pass));
    for (int64_t h = 0; h < kHeads; ++h) {
      const HeadWeights one = weights->of(0, h, kT);
      for (int64_t i = 0; i < kT; ++i) {
        double sum = 0;
        for (int64_t j = 0; j <= i; ++j) sum += one.rows[size_t(i * kT + j)];
        EXPECT_NEAR(sum, factors[size_t(i * kHeads + h)] * (1 - double(i + 1) / double(kT)), kRounding)
            << h << " " << i;
      }
    }
  });
}

// The weights that are shown, times the values, are the results: in documents, with a learned key and value, with
// every score; and the probe's are the same.
TEST_F(AffineStage, WeightsAreThoseOfTheResults) {
  const std::vector<int32_t> starts = {0, 0, 2, 2, 2, 5, 0, 1, 1, 1, 1, 1};
  for (const char* length : {"row", "context"})
    for (const Json& attention : {Json::object(), Json{{"key_value_bias", true}}, Json{{"score", "relu"}}}) {
      Json with = {{"affine", {{"type", "sigmoid"}, {"length", length}}}};
      with.update(attention);
      SCOPED_TRACE(with.dump());
      Transformer model = this->model(with);
      spread(model), set_averages(model, {0.25, -0.5, 2, 0});
      Batch documents = batch(0, kBatch);
      documents.document_starts = starts.data();
      look(model, documents, [&](const Pass& pass, const AttentionLayer& attention) {
        const Heads heads = attention.heads(pass);
        const auto weights = attention.weights()->read(pass, heads);
        const Values found = values_of(attention.results(pass)), values = values_of(heads.v);
        const Values extra =
            with.contains("key_value_bias") ? parameter(model, kAttention + "value_bias") : Values(kKv * kD);
        Arena memory(*backend_, 2 * size_t(kBatch * kHeads * kT) * sizeof(double));
        const Tensor first = memory.at(0, DType::kF64, {kBatch, kHeads, kT});
        attention.weights()->probe(pass, heads, first, memory.at(first.bytes(), DType::kF64, first.shape));
        for (int64_t b = 0; b < kBatch; ++b)
          for (int64_t h = 0; h < kHeads; ++h) {
            const HeadWeights one = weights->of(b, h, kT);
            for (int64_t i = 0; i < kT; ++i) {
              for (int64_t d = 0; d < kD; ++d) {
                const int64_t of_value = h / 2 * kD + d;
                double want = one.key_bias.empty() ? 0 : one.key_bias[size_t(i)] * extra[size_t(of_value)];
                for (int64_t j = 0; j <= i; ++j)
                  want += one.rows[size_t(i * kT + j)] * values[size_t((b * kT + j) * kKv * kD + of_value)];
                EXPECT_NEAR(found[size_t(((b * kT + i) * kHeads + h) * kD + d)], want, kRounding);
              }
              EXPECT_NEAR(values_of(first)[size_t((b * kHeads + h) * kT + i)],
                          one.rows[size_t(i * kT + starts[size_t(b * kT + i)])], kRounding);
            }
          }
      });
    }
}

// ---- the moving average ---------------------------------------------------------------------------------------------

TEST_F(AffineStage, AveragesTheFactorsOfAStepOverItsMicroBatches) {
  Transformer model = affine({{"keep", 0.75}, {"initial", 0.1}});
  spread(model);
  const Values factors = factors_of(model, batch(0, kBatch));
  Values seen(kHeads);
  for (size_t i = 0; i < factors.size(); ++i) seen[i % kHeads] += factors[i] / double(kBatch * kT);
  Values want(kHeads, 0.1);
  for (int step = 0; step < 3; ++step) {
    const double scale = 1.0 / double(kBatch * kT);
    if (step == 1) {
      model.forward_backward(batch(0, 1), scale, false);
      model.forward_backward(batch(1, 1), scale, true);
    } else {
      model.forward_backward(batch(0, kBatch), scale, false);
    }
    const Values before = values_of(model.averages().value({0}));
    for (size_t h = 0; h < size_t(kHeads); ++h) EXPECT_NEAR(before[h], want[h], 1e-14) << "not before the update";
    model.averages().update(*backend_);
    const Values after = values_of(model.averages().value({0}));
    for (size_t h = 0; h < size_t(kHeads); ++h) {
      want[h] = 0.75 * want[h] + 0.25 * seen[h];
      EXPECT_NEAR(after[h], want[h], 1e-14) << step << " " << h;
    }
  }
  EXPECT_GT(norm_of(seen), 0.1);
}

TEST_F(AffineStage, StaysAsItIsWhereNothingIsLearned) {
  Transformer model = affine({{"initial", 0.3}});
  model.loss(batch(0, kBatch));
  model.forward(batch(0, kBatch));
  EXPECT_EQ(norm_of(values_of(model.averages().all_observed())), 0);
  EXPECT_EQ(values_of(model.averages().value({1})), Values(kHeads, 0.3));
}

// ---- with others ----------------------------------------------------------------------------------------------------

TEST_F(AffineStage, GoesWithGatesGroupsAndScores) {
  for (const char* type : {"linear", "sigmoid"})
    for (const char* length : {"row", "context"}) {
      const Json affine = {{"type", type}, {"length", length}, {"initial", 0.7}};
      for (const Json& attention : {Json{{"type", "vga"}}, Json{{"type", "vga"}, {"site", "source"}},
                                    Json{{"type", "input_gated"}, {"grain", "element"}, {"exclude_self", true}},
                                    Json{{"type", "relu"}}, Json{{"type", "key_value_bias"}}}) {
        Json all = attention;
        all["affine"] = affine;
        gradients::check_gradients({{"heads", 4}, {"kv_heads", 2}, {"width", 12}, {"attention", all}}, 3);
      }
      decoding::check_decoding({{"attention", {{"type", "vga"}, {"site", "source"}, {"affine", affine}}},
                                {"kv_heads", 1},
                                {"value_head_size", 6}});
    }
}

// A shorter sequence than the context sees shares of the context still.
TEST_F(AffineStage, CountsByTheContextInShorterSequencesToo) {
  gradients::check_gradients({{"context", 9}, {"attention", {{"affine", {{"type", "linear"}, {"length", "context"}}}}}},
                             4);
  // Where m = 0 the result is A - B / context: halves of what is taken away, then quarters.
  const auto results_in = [&](int64_t context) {
    Transformer model = affine({{"length", "context"}}, context);
    spread(model);
    return results(model);
  };
  const Values one = results_in(kT), two = results_in(2 * kT), four = results_in(4 * kT);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(two[i] - one[i], 2 * (four[i] - two[i]), 1e-14);
  EXPECT_GT(distance(two, one), 0.01);
}

TEST_F(AffineStage, IsRefusedInASentence) {
  const auto refusal = [](const Json& affine) {
    return user_error_of([&] { gradients::small_model({{"attention", {{"affine", affine}}}}); });
  };
  expect_contains(refusal({{"length", "context"}}), {"model.attention.affine.length applies only when"});
  expect_contains(refusal({{"type", "linear"}, {"keep", 1.5}}), {"model.attention.affine.keep"});
  expect_contains(refusal("tanh"), {"model.attention.affine.type is \"tanh\""});
  const auto tied = [](const Json& affine) {
    return gradients::small_model({{"attention", {{"affine", affine}}}}).attention.all.tied_to_context();
  };
  EXPECT_NE(tied({{"type", "linear"}, {"length", "context"}}), "");
  EXPECT_EQ(tied("linear"), "");
}

}  // namespace
}  // namespace sluice
