// What the stage output_norm promises beyond what attention_parts_test.cc asks of every part.
#include "model/small_layers.h"

namespace sluice {
namespace {

using namespace parity;
using OutputNormStage = SmallLayers;

constexpr int64_t kHeads = 4, kKv = 2, kD = 3;

Json with(const Json& attention) {
  return {{"heads", kHeads}, {"kv_heads", kKv}, {"attention", attention}, {"norm_epsilon", 1e-30}};
}

// The factor of layer l as arXiv 2410.05258 has it, 1 - lambda_init.
TEST_F(OutputNormStage, GivesEveryHeadOneMeanSquare) {
  for (const bool by_depth : {false, true}) {
    Transformer normed = model(with({{"output_norm", by_depth ? "rmsnorm_by_depth" : "rmsnorm"}}));
    int layer = 0;
    look(normed, [&](const Pass& pass, const AttentionLayer& attention) {
      const Values results = values_of(attention.results(pass)), core = values_of(attention.heads(pass).out);
      const double factor = by_depth ? 1 - (0.8 - 0.6 * std::exp(-0.3 * layer)) : 1;
      for (size_t first = 0; first < results.size(); first += kD) {
        double squares = 0, core_squares = 0;
        for (size_t i = first; i < first + kD; ++i)
          squares += results[i] * results[i], core_squares += core[i] * core[i];
        EXPECT_NEAR(squares / kD, factor * factor, 1e-12);
        for (size_t i = first; i < first + kD; ++i)
          EXPECT_NEAR(results[i], factor * core[i] / std::sqrt(core_squares / kD), 1e-12);
      }
      ++layer;
    });
    EXPECT_EQ(layer, 2);
  }
}

TEST_F(OutputNormStage, LearnsOneGainForAllHeadsAndLeavesTheWeights) {
  Transformer plain = model(with("softmax")), normed = model(with("output_norm"));
  EXPECT_EQ(normed.params().count(), plain.params().count() + 2 * kD);
  EXPECT_EQ(parameter(normed, "blocks.1.attention.output_norm.weight"), Values(kD, 1.0));
  EXPECT_NE(normed.blocks()[0].attention().weights(), nullptr);
  // As many times as large, the values leave results as they were.
  const Values before = results(normed);
  for (const char* name : {"blocks.0.attention.qkv.weight", "blocks.0.attention.qkv.bias"}) {
    Values qkv = parameter(normed, name);
    const size_t values = size_t(kKv * kD) * qkv.size() / size_t((kHeads + 2 * kKv) * kD);
    for (size_t i = qkv.size() - values; i < qkv.size(); ++i) qkv[i] *= 3;
    assign(normed.params().value(named(normed, name)), qkv);
  }
  EXPECT_LT(distance(results(normed), before), 1e-13);
}

TEST_F(OutputNormStage, GoesWithGatesGroupsAndOtherStages) {
  for (const Json& attention : {Json{{"type", "vga"}, {"output_norm", "rmsnorm"}},
                                Json{{"type", "vga"}, {"site", "source"}, {"output_norm", "rmsnorm_by_depth"}},
                                Json{{"type", "input_gated"}, {"grain", "element"}, {"output_norm", "rmsnorm"}},
                                Json{{"type", "relu"}, {"output_norm", "rmsnorm"}, {"key_value_bias", true}}})
    gradients::check_gradients({{"heads", 4}, {"kv_heads", 2}, {"value_head_size", 5}, {"attention", attention}});
}

}  // namespace
}  // namespace sluice
