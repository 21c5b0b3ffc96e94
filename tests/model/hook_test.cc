// The hook before linear layers: which layers pass by it, with what, and that what it gives back is what is multiplied.
#include <gtest/gtest.h>

#include <map>

#include "model/parity.h"

namespace sluice {
namespace {

using namespace parity;

// Multiplies inputs and weights by powers of two, which changes no rounding.
class Scaling final : public LinearHook {
 public:
  Scaling(Transformer& model, double input, double weight)
      : model_(model), input_(input), weight_(weight), x_(model.backend(), 1 << 20), w_(model.backend(), 1 << 20) {}

  LinearOperands operands(const Pass& pass, ParamId weight, const LinearOperands& given) override {
    const std::string& name = pass.params.specs()[size_t(weight.index)].name;
    order.push_back(name);
    inputs[name] = values_of(given.x);
    EXPECT_EQ(values_of(given.weight), parameter(model_, name));
    const LinearOperands out = {x_.at(0, given.x.dtype, given.x.shape),
                                w_.at(0, given.weight.dtype, given.weight.shape)};
    scale(out.x, given.x, input_);
    scale(out.weight, given.weight, weight_);
    return out;
  }

  std::vector<std::string> order;
  std::map<std::string, Values> inputs;

 private:
  static void scale(const Tensor& out, const Tensor& x, double by) {
    Values values = values_of(x);
    for (double& value : values) value *= by;
    assign(out, values);
  }
  Transformer& model_;
  double input_, weight_;
  Arena x_, w_;
};

Json tiny(const Json& attention) {
  return {{"vocab_size", 23}, {"context", 9},    {"layers", 2},           {"heads", 2},
          {"width", 16},      {"mlp_width", 24}, {"attention", attention}};
}

struct Sample {
  std::vector<int32_t> tokens, targets;
  explicit Sample(int64_t n) {
    for (int64_t i = 0; i < n; ++i) tokens.push_back(int32_t(i * 7 % 23)), targets.push_back(int32_t(i * 5 % 23));
  }
};

TEST(LinearHook, SeesEveryLinearLayerInOrderAndNothingElse) {
  const auto backend = make_cpu_backend();
  const std::map<std::string, Json> attentions = {{"hidden", {{"type", "input_gated"}}},
                                                  {"value", {{"type", "vga"}}},
                                                  {"hidden_head", {{"type", "gated_attention"}}},
                                                  {"source", {{"type", "vga"}, {"site", "source"}}},
                                                  {"none", {{"type", "softmax"}}}};
  for (const auto& [name, attention] : attentions) {
    SCOPED_TRACE(name);
    Transformer model(*backend, model_config(tiny(attention)), {.max_batch = 2, .training = false});
    model.initialise(1);
    Scaling hook(model, 1, 1);
    const Sample sample(18);
    const double plain = model.loss({sample.tokens.data(), sample.targets.data(), 2, 9});
    model.set_hook(&hook);
    EXPECT_EQ(model.loss({sample.tokens.data(), sample.targets.data(), 2, 9}), plain);
    std::vector<std::string> want;
    for (const std::string block : {"blocks.0.", "blocks.1."}) {
      want.push_back(block + "attention.qkv.weight");
      if (name != "none") want.push_back(block + "attention.gate.weight");
      for (const char* part : {"attention.output", "mlp.up", "mlp.down"}) want.push_back(block + part + ".weight");
    }
    EXPECT_EQ(hook.order, want);
    model.set_hook(nullptr);
    EXPECT_EQ(model.loss({sample.tokens.data(), sample.targets.data(), 2, 9}), plain);
    EXPECT_EQ(hook.order, want);
  }
}

// Twice the input and half the weight is the same product; twice the input alone is not.
TEST(LinearHook, ItsOperandsAreTheOnesMultiplied) {
  const auto backend = make_cpu_backend();
  for (const char* type : {"softmax", "input_gated", "vga", "gated_attention"}) {
    SCOPED_TRACE(type);
    Transformer model(*backend, model_config(tiny({{"type", type}})), {.max_batch = 2, .training = false});
    model.initialise(1);
    const Sample sample(18);
    const auto loss = [&](double input, double weight) {
      Scaling hook(model, input, weight);
      model.set_hook(&hook);
      const double out = model.loss({sample.tokens.data(), sample.targets.data(), 2, 9});
      model.set_hook(nullptr);
      return out;
    };
    EXPECT_EQ(loss(2, 0.5), loss(1, 1));
    EXPECT_EQ(loss(0.25, 4), loss(1, 1));
    EXPECT_NE(loss(2, 1), loss(1, 1));
    EXPECT_NE(loss(1, 2), loss(1, 1));
    EXPECT_EQ(loss(2, 1), loss(1, 2));
  }
}

TEST(LinearHook, HasNoGradients) {
  const auto backend = make_cpu_backend();
  Transformer model(*backend, model_config(tiny({{"type", "softmax"}})), {.max_batch = 2});
  model.initialise(1);
  Scaling hook(model, 1, 1);
  model.set_hook(&hook);
  const Sample sample(18);
  EXPECT_THROW(model.forward_backward({sample.tokens.data(), sample.targets.data(), 2, 9}, 1, false), std::logic_error);
}

}  // namespace
}  // namespace sluice
