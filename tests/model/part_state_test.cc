// What parts may have besides parameters: losses of their own, and moving averages that are not trained. Gradients,
// recomputation and decoding of a part with both are tested with the others (attention_parts_test.cc); here, what adds
// up over a step.
#include <gtest/gtest.h>

#include "model/foreign_state.h"
#include "model/gradient_check.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int64_t kT = 3, kColumns = 12;

class PartState : public testing::Test {
 protected:
  // Two layers whose values are their biases: the same at every token.
  Transformer model_with_constant_values() {
    Transformer model(*backend_, gradients::small_model({{"attention", {{"centred_values", true}}}}),
                      {.act = DType::kF64, .max_batch = 2});
    model.initialise(3);
    for (int layer = 0; layer < 2; ++layer) {
      const std::string qkv = fmt::format("blocks.{}.attention.qkv.", layer);
      const Tensor weight = model.params().value(named(model, qkv + "weight"));
      assign(weight, Values(size_t(weight.elements()), 0.0));
    }
    return model;
  }

  // Of a layer's values.
  static Values bias(const Transformer& model, int layer) {
    const Values all = parameter(model, fmt::format("blocks.{}.attention.qkv.bias", layer));
    return Values(all.end() - kColumns, all.end());
  }

  Batch batch(int64_t first, int64_t B) const {
    return {&tokens_[size_t(first * kT)], &targets_[size_t(first * kT)], B, kT};
  }

  const ListedStage stage_{foreign::centred_values()};
  const std::unique_ptr<Backend> backend_ = make_cpu_backend();
  const std::vector<int32_t> tokens_ = gradients::random_tokens(0, 2 * kT),
                             targets_ = gradients::random_tokens(1, 2 * kT);
};

TEST_F(PartState, AddsUpOverTheMicroBatchesOfAStepAndTheLayers) {
  Transformer model = model_with_constant_values();
  double size = 0;
  for (int layer = 0; layer < 2; ++layer)
    for (const double value : bias(model, layer)) size += std::pow(value - 0.3, 2) / double(kColumns);
  for (const bool at_once : {true, false}) {
    const double scale = 1.0 / double(2 * kT);
    if (at_once) {
      model.forward_backward(batch(0, 2), scale, false);
    } else {
      model.forward_backward(batch(0, 1), scale, false);
      model.forward_backward(batch(1, 1), scale, true);
    }
    ASSERT_EQ(model.losses().list().size(), 1u) << "the layers' losses of one name are one";
    EXPECT_NEAR(model.part_losses()[0], size, 1e-14 * size);
    for (int layer = 0; layer < 2; ++layer) {
      const Values seen = values_of(model.averages().observed({layer})), want = bias(model, layer);
      for (size_t c = 0; c < want.size(); ++c) EXPECT_NEAR(seen[c], want[c], 1e-15);
    }
  }
}

TEST_F(PartState, AveragesKeepTheirShare) {
  Transformer model = model_with_constant_values();
  Values want(size_t(kColumns), 0.3);
  for (int step = 0; step < 3; ++step) {
    model.forward_backward(batch(0, 2), 1.0 / double(2 * kT), false);
    model.averages().update(*backend_);
    const Values found = values_of(model.averages().value({1}));
    for (size_t c = 0; c < want.size(); ++c) {
      want[c] = 0.9 * want[c] + 0.1 * bias(model, 1)[c];
      EXPECT_NEAR(found[c], want[c], 1e-15) << step;
    }
  }
}

TEST_F(PartState, IsLeftAloneWhereNothingIsLearned) {
  Transformer model = model_with_constant_values();
  model.forward_backward(batch(0, 2), 1.0 / double(2 * kT), false);
  const std::vector<double> losses = model.part_losses();
  const Values seen = values_of(model.averages().observed({0}));
  model.loss(batch(0, 2));
  model.forward(batch(0, 2));
  EXPECT_EQ(model.part_losses(), losses);
  EXPECT_EQ(values_of(model.averages().observed({0})), seen);
}

TEST_F(PartState, HasNoneWherePartsHaveNone) {
  Transformer model(*backend_, gradients::small_model(Json::object()), {.max_batch = 2});
  EXPECT_TRUE(model.averages().empty());
  EXPECT_EQ(model.averages().bytes(), 0u);
  EXPECT_TRUE(model.part_losses().empty());
  for (const MemoryPlan::Buffer& buffer : model.plan().buffers()) EXPECT_NE(buffer.name, "part_losses");
}

TEST_F(PartState, OfOneNameHasOneWeight) {
  EXPECT_THROW(Transformer(*backend_, gradients::small_model({{"attention", Json::parse(R"([{"centred_values": true},
                               {"centred_values": true, "value_size_weight": 0.5}])")}}),
                           {.allocate = false}),
               std::logic_error);
}

}  // namespace
}  // namespace sluice
