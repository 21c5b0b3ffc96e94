// model.dropout in whole models: gradients by finite differences with the masks held, the same masks in any
// micro-batch, when a block is recomputed and on the CUDA backend; none in passes that do not learn; what is refused.
#include "base/error_text.h"
#include "kernels/cuda_under_test.h"
#include "model/gradient_check.h"
#include "model/nobody.h"

namespace sluice::parity {
namespace {

using gradients::kBatch;
using gradients::random_tokens;

const Json kAll = {{"hidden", 0.2}, {"attention", 0.3}, {"embedding", 0.25}};

ModelConfig dropping(Json changes = Json::object(), int64_t context = 5) {
  changes["context"] = context;
  if (!changes.contains("dropout")) changes["dropout"] = kAll;
  return gradients::small_model(changes);
}

// A batch of random tokens, and a model that has learned from it.
struct Learning {
  Learning(Backend& backend, const ModelConfig& config, DType act, Recompute recompute = Recompute::kNone)
      : T(config.context),
        tokens(random_tokens(0, kBatch * T)),
        targets(random_tokens(1, kBatch * T)),
        model(backend, config, {.act = act, .max_batch = kBatch, .recompute = recompute}) {
    model.initialise(5);
  }
  Batch batch(int64_t first = 0, int64_t count = kBatch) const {
    return {&tokens[size_t(first * T)], &targets[size_t(first * T)], count, T};
  }
  double learn(const Draws& draws = {1, 10}) { return model.forward_backward(batch(), 1, false, nullptr, draws); }
  // With the losses that parts add.
  double learned(const Draws& draws) {
    double total = learn(draws);
    const std::vector<double> parts = model.part_losses();
    for (size_t i = 0; i < parts.size(); ++i) total += model.losses().list()[i].weight * parts[i];
    return total;
  }
  std::vector<Values> slopes() {
    std::vector<Values> out;
    for (const ParamSpec& spec : model.params().specs()) out.push_back(gradient(model, spec.name));
    return out;
  }

  int64_t T;
  std::vector<int32_t> tokens, targets;
  Transformer model;
};

// The gradient of every parameter along a random direction, with one draw throughout.
void check_gradients(const Json& changes) {
  SCOPED_TRACE(changes.dump());
  const Draws draws = {3, 77};
  const auto backend = make_cpu_backend();
  Learning learning(*backend, dropping(changes), DType::kF64);
  learning.learn(draws);
  const std::vector<Values> slopes = learning.slopes();
  for (size_t which = 0; which < slopes.size(); ++which) {
    const std::string& name = learning.model.params().specs()[which].name;
    const Tensor value = learning.model.params().value(named(learning.model, name));
    const Values here = values_of(value);
    Values direction(here.size()), products(here.size());
    double expected = 0;
    for (size_t i = 0; i < here.size(); ++i) {
      const double r = gradients::random_in(0.5, 300 + which, i);
      direction[i] = r + std::copysign(0.5, r);
      products[i] = slopes[which][i] * direction[i];
      expected += products[i];
    }
    constexpr double kStep = 1e-5;
    const auto loss_at = [&](double by) {
      Values moved = here;
      for (size_t i = 0; i < here.size(); ++i) moved[i] += by * direction[i];
      assign(value, moved);
      return learning.learned(draws);
    };
    const double found = (loss_at(kStep) - loss_at(-kStep)) / (2 * kStep);
    assign(value, here);
    EXPECT_NEAR(found, expected, 2e-6 * norm_of(products) + 1e-9) << name;
  }
}

TEST(ModelDropout, GradientsAreFiniteDifferences) {
  for (const char* changes :
       {R"({})", R"({"dropout": {"hidden": 0.3}})", R"({"dropout": {"attention": 0.3}})",
        R"({"dropout": {"embedding": 0.3}})", R"({"parallel_residual": true})",
        R"({"norm": "rmsnorm", "mlp": "swiglu", "position": "rope", "kv_heads": 1, "registers": 2})",
        R"({"residual": {"type": "attention"}})", R"({"residual": {"type": "delta", "init_std": 0.3}})",
        R"({"residual": {"outlier_loss": 0.5, "outlier_limit": 0.7}})",
        R"({"attention": {"qk_source": {"type": "embedding"}}})",
        R"({"attention": {"window": 4, "permuted": "gated"}})", R"({"attention": "vga"})",
        R"({"attention": "diff_v1"})", R"({"attention": {"key_value_bias": true}})", R"({"attention": "sigmoid"})",
        R"({"attention": "softpick"})",
        R"({"attention": {"core": "linear"}, "dropout": {"hidden": 0.2, "embedding": 0.2}})"})
    check_gradients(Json::parse(changes));
}

// A sequence's masks follow from its number. Where the others predict nothing, the loss is its own, to the bit.
TEST(ModelDropout, AMicroBatchHasTheMasksOfItsSequences) {
  const auto backend = make_cpu_backend();
  for (const DType act : {DType::kF32, DType::kF64}) {
    Learning learning(*backend, dropping(), act);
    std::vector<double> alone;
    for (int64_t b = 0; b < kBatch; ++b)
      alone.push_back(learning.model.forward_backward(learning.batch(b, 1), 1, false, nullptr, {1, 10 + b}));
    EXPECT_NE(alone[1], learning.model.forward_backward(learning.batch(1, 1), 1, false, nullptr, {1, 10}));
    EXPECT_NE(alone[1], learning.model.forward_backward(learning.batch(1, 1), 1, false, nullptr, {2, 11}));
    for (int64_t b = 0; b < kBatch; ++b) {
      Learning one(*backend, dropping(), act);
      for (int64_t i = 0; i < kBatch * one.T; ++i)
        if (i / one.T != b) one.targets[size_t(i)] = -1;
      EXPECT_EQ(one.learn(), alone[size_t(b)]) << name_of(act);
    }
  }
}

TEST(ModelDropout, RecomputedBlocksDrawTheSameMasks) {
  for (const char* changes : {R"({})", R"({"parallel_residual": true})", R"({"residual": {"type": "attention"}})"}) {
    SCOPED_TRACE(changes);
    const ModelConfig config = dropping(Json::parse(changes));
    const std::vector<Values> kept = gradients::bits_of_step(config, Recompute::kNone);
    for (const Recompute recompute : {Recompute::kMlp, Recompute::kBlock})
      EXPECT_EQ(gradients::bits_of_step(config, recompute), kept);
  }
}

TEST(ModelDropout, IsOffInAllOtherPasses) {
  const auto backend = make_cpu_backend();
  Learning with(*backend, dropping(), DType::kF32),
      without(*backend, dropping({{"dropout", Json::object()}}), DType::kF32);
  with.learn();
  without.learn();
  EXPECT_NE(with.learn(), without.learn());
  EXPECT_EQ(with.model.loss(with.batch()), without.model.loss(without.batch()));
  EXPECT_EQ(with.model.token_losses(with.batch()), without.model.token_losses(without.batch()));
  Nobody nobody;
  EXPECT_EQ(with.model.observe(with.batch(), 1, nobody), without.model.observe(without.batch(), 1, nobody));
  EXPECT_EQ(with.slopes(), without.slopes());
}

// Steps are run, recorded and replayed; each draws anew.
TEST(ModelDropout, ARecordedStepDrawsItsOwnMasks) {
  const auto cuda = cuda_under_test(), cpu = make_cpu_backend();
  if (!cuda) GTEST_SKIP() << cuda_unavailable_reason();
  for (const DType act : {DType::kF32, DType::kBF16}) {
    Learning on_cuda(*cuda, dropping(Json::object(), 20), act), on_cpu(*cpu, dropping(Json::object(), 20), act);
    std::vector<double> losses;
    for (int64_t step = 0; step < 4; ++step) {
      const double want = on_cpu.learn({1, 2 * step}), got = on_cuda.learn({1, 2 * step});
      EXPECT_NEAR(got, want, (act == DType::kBF16 ? 1e-2 : 1e-5) * want) << name_of(act) << step;
      for (const double other : losses) EXPECT_GT(std::fabs(other - want), 1e-4 * want) << "the same masks";
      losses.push_back(want);
    }
  }
}

TEST(ModelDropout, TakesBuffersWhereItIsOn) {
  const auto backend = make_cpu_backend();
  const auto bytes = [&](const Json& dropout) {
    return Transformer(*backend, dropping({{"dropout", dropout}, {"width", 64}}, 64), {.max_batch = 4}).arena_bytes();
  };
  const size_t none = bytes(Json::object()), rows = 4 * 4 * 64 * 64;  // [N, C] in fp32
  EXPECT_LE(bytes({{"embedding", 0.1}, {"attention", 0.1}}), none + 256) << "keys alone";
  EXPECT_LE(bytes(kAll), none + rows + 256) << "and one gradient at a time";
}

TEST(ModelDropout, RefusesWhatHasNoMeaning) {
  const auto refusal = [](const char* changes) { return user_error_of([&] { dropping(Json::parse(changes)); }); };
  for (const char* core : {"linear", "flow", "mlp", "key_only"})
    expect_contains(refusal(fmt::format(R"({{"attention": {{"core": "{}"}}}})", core).c_str()),
                    {"model.dropout.attention = 0.3", "the core ", core});
  expect_contains(refusal(R"({"attention": ["softmax", {"core": "flow"}]})"), {"model.dropout.attention", "flow"});
  expect_contains(refusal(R"({"attention": {"qk_source": {"type": "random"}}})"), {"model.dropout", "fixed stream"});
  expect_contains(refusal(R"({"dropout": {"hidden": 1}})"), {"model.dropout.hidden", "0.99"});
}

TEST(ModelDropout, LeavesNoTraceInAConfigWithout) {
  ModelConfig config = dropping({{"dropout", Json::object()}});
  Fields fields;
  config.describe(fields);
  EXPECT_FALSE(fields.dump().contains("dropout"));
  ModelConfig some = dropping({{"dropout", {{"hidden", 0.1}}}});
  Fields of_some;
  some.describe(of_some);
  EXPECT_EQ(of_some.dump()["dropout"], Json({{"hidden", 0.1}}));
}

}  // namespace
}  // namespace sluice::parity
