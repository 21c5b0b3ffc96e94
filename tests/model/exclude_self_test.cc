// What the stage exclude_self promises beyond what attention_parts_test.cc asks of every part.
#include "model/attention/stages/exclude_self.h"

#include <gtest/gtest.h>

#include "model/gradient_check.h"

namespace sluice {
namespace {

using namespace parity;

// Two query heads for each key/value head, and what a block's attention has put into its results.
class ExcludeSelfStage : public testing::Test {
 protected:
  static constexpr int64_t kT = 6, kBatch = 2, kHeads = 4, kKv = 2, kD = 3;

  Transformer model(const Json& attention) const {
    Transformer model(
        *backend_,
        gradients::small_model({{"context", kT}, {"heads", kHeads}, {"kv_heads", kKv}, {"attention", attention}}),
        {.act = DType::kF64, .max_batch = kBatch});
    model.initialise(9);
    return model;
  }

  // body(results [N, H D], core's [N, H D], values [N, KV D]) of every layer.
  template <class Body>
  void look(Transformer& model, Body body) const {
    const std::vector<int32_t> tokens = gradients::random_tokens(0, kBatch * kT);
    model.forward({tokens.data(), nullptr, kBatch, kT}, [&](const Pass& pass, int64_t layer) {
      const AttentionLayer& attention = model.blocks()[size_t(layer)].attention();
      body(values_of(attention.results(pass)), values_of(attention.heads(pass).out), values_of(attention.values(pass)));
    });
  }

  const std::unique_ptr<Backend> backend_ = make_cpu_backend();
};

TEST_F(ExcludeSelfStage, LeavesNothingAlongTheOwnValueAndNothingOfTheFirstRow) {
  Transformer exclusive = model({{"exclude_self", true}});
  look(exclusive, [](const Values& results, const Values& core, const Values& values) {
    for (int64_t n = 0; n < kBatch * kT; ++n)
      for (int64_t h = 0; h < kHeads; ++h) {
        double along = 0, square = 0, left = 0;
        for (int64_t i = 0; i < kD; ++i) {
          const double v = values[size_t((n * kKv + h / 2) * kD + i)], y = results[size_t((n * kHeads + h) * kD + i)];
          along += core[size_t((n * kHeads + h) * kD + i)] * v;
          square += v * v;
          left += y * v;
        }
        EXPECT_NEAR(left, 0, 1e-15);
        for (int64_t i = 0; i < kD; ++i) {
          const size_t at = size_t((n * kHeads + h) * kD + i);
          EXPECT_NEAR(results[at], core[at] - along / square * values[size_t((n * kKv + h / 2) * kD + i)], 1e-15);
          // A row that sees itself alone.
          EXPECT_TRUE(n % kT != 0 || std::fabs(results[at]) < 1e-15) << results[at];
        }
      }
  });
}

TEST_F(ExcludeSelfStage, HasNoParametersAndLeavesTheFirstLayersWeightsAsTheyAre) {
  Transformer plain = model("softmax"), exclusive = model({{"exclude_self", true}});
  EXPECT_EQ(exclusive.params().count(), plain.params().count());
  for (const ParamSpec& spec : plain.params().specs())
    EXPECT_EQ(parameter(exclusive, spec.name), parameter(plain, spec.name)) << spec.name;
  EXPECT_NE(exclusive.blocks()[0].attention().weights(), nullptr);
}

// Gradients with every gate that reads or scales values, and with grouped heads.
TEST_F(ExcludeSelfStage, GoesWithGatesAndGroups) {
  for (const Json& attention : {Json{{"type", "vga"}, {"exclude_self", true}},
                                Json{{"type", "vga"}, {"site", "source"}, {"exclude_self", true}},
                                Json{{"type", "input_gated"}, {"grain", "element"}, {"exclude_self", true}},
                                Json{{"type", "relu"}, {"exclude_self", true}}})
    gradients::check_gradients({{"heads", 4}, {"kv_heads", 2}, {"width", 12}, {"attention", attention}}, 3);
}

}  // namespace
}  // namespace sluice
