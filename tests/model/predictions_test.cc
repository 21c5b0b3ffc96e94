// Batches in which few tokens are predicted: the head sees their rows alone, and losses and gradients are those of a
// head that sees all.
#include "model/predictions.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/cuda_under_test.h"
#include "model/gradient_check.h"
#include "model/nobody.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int64_t kT = 7, kPredicted = 3;

const Json kBert = {{"residual", "post_norm"}, {"segment_embedding", true}, {"head_transform", true},
                    {"head_bias", true},       {"mlp", "gelu_erf"},         {"tied_head", true}};

// Softmax alone, BERT's parts, registers, and a second sequence that runs beside the batch's.
const Json kModels[] = {Json::object(),
                        kBert,
                        {{"registers", 2}},
                        {{"attention", {{"type", "softmax"}, {"qk_source", {{"type", "random"}}}}}}};

ModelConfig masked_model(Json changes) {
  changes.update({{"causal", false}, {"context", kT}});
  return gradients::small_model(changes);
}

// Of two sequences the first has as many targets as the batch says, the second one fewer; or none.
struct Masked {
  std::vector<int32_t> tokens = gradients::random_tokens(0, 2 * kT), targets = gradients::random_tokens(1, 2 * kT);

  explicit Masked(bool second_has_any = true) {
    for (int64_t n = 0; n < 2 * kT; ++n)
      if (!(n == 1 || n == 4 || n == 6 || (second_has_any && (n == kT || n == kT + 5)))) targets[size_t(n)] = -1;
  }
  Batch batch(int64_t predictions) const { return {tokens.data(), targets.data(), 2, kT, nullptr, predictions}; }
};

struct Step {
  double loss, seen;
  std::vector<double> of_tokens;
  std::vector<Values> gradients;
};

Step step_of(Transformer& model, const Batch& batch) {
  Step out;
  out.seen = model.loss(batch);
  out.of_tokens = model.token_losses(batch);
  out.loss = model.forward_backward(batch, 0.25, false);
  for (const ParamSpec& spec : model.params().specs()) out.gradients.push_back(gradient(model, spec.name));
  return out;
}

void expect_near(const Values& found, const Values& expected, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size());
  Values difference = found;
  for (size_t i = 0; i < found.size(); ++i) difference[i] -= expected[i];
  EXPECT_LE(norm_of(difference), 1e-13 * (norm_of(expected) + 1)) << what;
}

TEST(Predictions, OfFewRowsAreThoseOfAll) {
  const auto backend = make_cpu_backend();
  for (const Json& changes : kModels)
    for (const bool second_has_any : {true, false}) {
      SCOPED_TRACE(fmt::format("{} {}", changes.dump(), second_has_any));
      Transformer model = gradients::scattered_model(*backend, masked_model(changes), DType::kF64);
      const Masked masked(second_has_any);
      const Step all = step_of(model, masked.batch(0)), few = step_of(model, masked.batch(kPredicted));
      EXPECT_GT(all.loss, 0);
      EXPECT_NEAR(few.loss, all.loss, 1e-13 * all.loss);
      EXPECT_NEAR(few.seen, all.loss, 1e-13 * all.loss);
      for (size_t n = 0; n < masked.targets.size(); ++n)
        if (masked.targets[n] < 0) {
          EXPECT_EQ(few.of_tokens[n], 0) << n;
        }
      expect_near(few.of_tokens, all.of_tokens, "losses of tokens");
      for (size_t i = 0; i < all.gradients.size(); ++i)
        expect_near(few.gradients[i], all.gradients[i], model.params().specs()[i].name);
    }
}

// Micro-batches of other sizes and masks follow one another in one model, with what is measured between them.
TEST(Predictions, LeaveNothingBehind) {
  const auto backend = make_cpu_backend();
  for (const Json& changes : kModels) {
    SCOPED_TRACE(changes.dump());
    Transformer model = gradients::scattered_model(*backend, masked_model(changes), DType::kF64);
    const Masked masked, fewer(false);
    const Batch whole = {masked.tokens.data(), masked.tokens.data(), 2, kT};
    Batch one = masked.batch(kPredicted + 1);
    one.B = 1;
    const Step before = step_of(model, whole);
    for (const Batch& other : {masked.batch(kPredicted), fewer.batch(kPredicted), one}) {
      const Step first = step_of(model, other);
      model.forward({masked.tokens.data(), nullptr, 2, kT});
      const Step after = step_of(model, whole), again = step_of(model, other);
      EXPECT_EQ(after.loss, before.loss);
      EXPECT_EQ(after.gradients, before.gradients);
      EXPECT_EQ(again.loss, first.loss);
      EXPECT_EQ(again.of_tokens, first.of_tokens);
      EXPECT_EQ(again.gradients, first.gradients);
    }
  }
}

// Two micro-batches, with an evaluation between them, are one batch.
TEST(Predictions, AddUpOverMicroBatches) {
  const auto backend = make_cpu_backend();
  for (const Json& changes : kModels) {
    SCOPED_TRACE(changes.dump());
    Transformer model = gradients::scattered_model(*backend, masked_model(changes), DType::kF64);
    const Masked masked;
    const Step all = step_of(model, masked.batch(kPredicted));
    Batch first = masked.batch(kPredicted), second = first;
    first.B = second.B = 1;
    second.tokens += kT, second.targets += kT;
    double loss = model.forward_backward(first, 0.25, false);
    model.loss(masked.batch(0));
    loss += model.forward_backward(second, 0.25, true);
    EXPECT_NEAR(loss, all.loss, 1e-13 * all.loss);
    for (size_t i = 0; i < all.gradients.size(); ++i) {
      const std::string& name = model.params().specs()[i].name;
      expect_near(gradient(model, name), all.gradients[i], name);
    }
  }
}

TEST(Predictions, AreThoseOfAnObservedPass) {
  const auto backend = make_cpu_backend();
  for (const Json& changes : kModels) {
    SCOPED_TRACE(changes.dump());
    Transformer model = gradients::scattered_model(*backend, masked_model(changes), DType::kF64);
    const Masked masked;
    const Step step = step_of(model, masked.batch(kPredicted));
    Nobody observer;
    EXPECT_EQ(model.observe(masked.batch(kPredicted), 0.25, observer), step.loss);
    size_t i = 0;
    for (const ParamSpec& spec : model.params().specs()) EXPECT_EQ(gradient(model, spec.name), step.gradients[i++]);
  }
}

// A recorded step has the rows of the batch at hand: other places, as many of them.
TEST(Predictions, AreTheSameOnAGpu) {
  const auto device = cuda_under_test();
  if (!device) GTEST_SKIP() << cuda_unavailable_reason();
  const auto backend = make_cpu_backend();
  for (const Json& changes : kModels) {
    SCOPED_TRACE(changes.dump());
    const ModelConfig config = masked_model(changes);
    Transformer here(*backend, config, {.max_batch = 2}), there(*device, config, {.max_batch = 2});
    here.initialise(3), there.initialise(3);
    Masked masked;
    for (int turn = 0; turn < 3; ++turn) {
      const double want = here.forward_backward(masked.batch(kPredicted), 0.25, false);
      EXPECT_NEAR(there.forward_backward(masked.batch(kPredicted), 0.25, false), want, 1e-5 * want) << turn;
      std::rotate(masked.targets.begin(), masked.targets.begin() + 1, masked.targets.begin() + kT);
    }
  }
}

TEST(Predictions, LogitsAreOfEveryRow) {
  const auto backend = make_cpu_backend();
  for (const Json& changes : kModels) {
    SCOPED_TRACE(changes.dump());
    Transformer model = gradients::scattered_model(*backend, masked_model(changes), DType::kF64);
    const Masked masked;
    const Values before = logits_of(model, masked.tokens, 2, kT);
    model.loss(masked.batch(kPredicted));
    EXPECT_EQ(logits_of(model, masked.tokens, 2, kT), before);
  }
}

TEST(Predictions, RefuseMoreTargetsThanTheBatchSays) {
  const auto backend = make_cpu_backend();
  Transformer model = gradients::scattered_model(*backend, masked_model(Json::object()), DType::kF64);
  EXPECT_THROW(model.loss(Masked().batch(kPredicted - 1)), std::logic_error);
}

}  // namespace
}  // namespace sluice
