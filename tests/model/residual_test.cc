// Every residual in the list of residual_parts.h, by the example that its entry gives: gradients, recomputation,
// decoding, memory. Two that stand in no list of the project's (foreign_residuals.h) are tested with them: what a
// residual needs it gets without a block's knowing it.
#include "model/residual/residual.h"

#include <gtest/gtest.h>

#include "base/error_text.h"
#include "measure/analyzer.h"
#include "measure/probe.h"
#include "model/decoder_check.h"
#include "model/foreign_residuals.h"
#include "model/gradient_check.h"

namespace sluice {
namespace {

using namespace parity;

class Residuals : public testing::Test {
 protected:
  const ListedResidual depth_{foreign::depth()};
  const ListedResidual lanes_{foreign::two_lanes()};
};

// Calls check(changes) for each residual, where both forms of a block can have it with both.
template <class Check>
void for_each_residual(Check check) {
  int checked = 0;
  for (const ResidualPart& part : residuals())
    for (const bool parallel : {false, true}) {
      Json changes = Json::parse(part.example);
      changes["layers"] = 3;
      changes["parallel_residual"] = parallel;
      if (!user_error_of([&] { gradients::small_model(changes); }).empty()) continue;
      SCOPED_TRACE(changes.dump());
      ++checked;
      check(changes);
    }
  EXPECT_EQ(checked, 2 * int(residuals().size()) - 2);  // two_lanes and post_norm refuse parallel_residual
}

// Bits of the loss and of every gradient of a step, by the parameter's name.
std::map<std::string, Values> step(const Json& changes, Recompute recompute = Recompute::kNone) {
  const ModelConfig config = gradients::small_model(changes);
  const auto backend = make_cpu_backend();
  Transformer model(*backend, config, {.max_batch = 2, .recompute = recompute});
  model.initialise(5);
  const std::vector<int32_t> tokens = gradients::random_tokens(0, 2 * config.context);
  const std::vector<int32_t> targets = gradients::random_tokens(1, 2 * config.context);
  std::map<std::string, Values> out;
  out["loss"] = {model.forward_backward({tokens.data(), targets.data(), 2, config.context}, 1, false)};
  for (const ParamSpec& spec : model.params().specs()) out[spec.name] = gradient(model, spec.name);
  return out;
}

TEST_F(Residuals, HaveTheGradientsThatTheirLossesSay) {
  for_each_residual([](const Json& changes) { gradients::check_gradients(changes); });
}

TEST_F(Residuals, DecodeWhatTheyCompute) {
  for_each_residual([](const Json& changes) { decoding::check_decoding(changes, {DType::kF32}); });
}

TEST_F(Residuals, AreTheSameBitsWhenTheyRunAgain) {
  for_each_residual([](Json changes) {
    changes["context"] = 7;
    changes["attention"] = "vga";
    const auto want = step(changes);
    EXPECT_EQ(step(changes, Recompute::kMlp), want);
    EXPECT_EQ(step(changes, Recompute::kBlock), want);
  });
}

// ---- a mix of nothing but the last state is a running sum ------------------------------------------------------------

const Json kLast = {{"type", "depth"}, {"reach", 1}};

TEST_F(Residuals, OfTheLastStateAloneIsTheSameBitsAsAdd) {
  for (const bool parallel : {false, true})
    for (const char* norm : {"layernorm", "rmsnorm"}) {
      Json changes = {{"layers", 3}, {"context", 7}, {"parallel_residual", parallel}, {"norm", norm}};
      const auto add = step(changes);
      changes["residual"] = kLast;
      for (const Recompute recompute : {Recompute::kNone, Recompute::kMlp, Recompute::kBlock}) {
        auto depth = step(changes, recompute);
        EXPECT_EQ(std::erase_if(depth, [](const auto& named) { return named.first.starts_with("depth."); }),
                  parallel ? 4 : 7);
        EXPECT_EQ(depth, add) << changes.dump();
      }
    }
}

// What instruments read of the stream, in an order of their own.
TEST_F(Residuals, ShowInstrumentsTheStreamThatIsRead) {
  class Tokens final : public DataSource {
   public:
    Tokens() : DataSource(7), tokens_(gradients::random_tokens(0, 8)) {}
    void fill(int64_t, int64_t count, int32_t* inputs, int32_t* targets) const override {
      for (int64_t i = 0; i < count * 7; ++i)
        inputs[i] = tokens_[size_t(i % 7)], targets[i] = tokens_[size_t(i % 7 + 1)];
    }
    int64_t vocab_size_needed() const override { return gradients::kVocab; }
    std::string describe() const override { return ""; }
    std::string identity() const override { return ""; }

   private:
    std::vector<int32_t> tokens_;
  };
  const Tokens tokens;
  const auto backend = make_cpu_backend();
  const auto measured = [&](const Json& residual) {
    Transformer model(*backend, gradients::small_model({{"layers", 3}, {"context", 7}, {"residual", residual}}),
                      {.max_batch = 2});
    model.initialise(5);
    std::vector<Json> out = Prober(model, tokens, 2).run().lines(0);
    // As it is written: a mean over nothing, which is no number, is null, and equal to another.
    out.push_back(Json::parse(Analyzer(model, tokens, {.sequences = 2}).run(0).json().dump()));
    return out;
  };
  EXPECT_EQ(measured(kLast), measured("add"));
  EXPECT_NE(measured({{"type", "depth"}, {"reach", 2}}), measured("add"));
}

// ---- memory --------------------------------------------------------------------------------------------------------------

TEST_F(Residuals, SayHowLongWhatTheyNeedStays) {
  const auto backend = make_cpu_backend();
  const auto life = [&](const Json& residual, const std::string& name) {
    const Transformer model(*backend, gradients::small_model({{"layers", 3}, {"residual", residual}}),
                            {.allocate = false});
    for (const MemoryPlan::Buffer& buffer : model.plan().buffers())
      if (buffer.name == name) return std::pair(buffer.life.first, buffer.life.last);
    return std::pair(-1, -1);
  };
  EXPECT_EQ(life("add", "blocks.1.input"), std::pair(3, 11));
  EXPECT_EQ(life("add", "depth.2.state"), std::pair(-1, -1));
  EXPECT_EQ(life(kLast, "blocks.1.input"), std::pair(-1, -1));
  EXPECT_EQ(life(kLast, "depth.2.state"), std::pair(2, 11));
  EXPECT_EQ(life(kLast, "depth.2.d_state"), std::pair(11, 12));
  EXPECT_EQ(life({{"type", "depth"}, {"reach", 3}}, "depth.2.d_state"), std::pair(9, 12));
}

// ---- configs -------------------------------------------------------------------------------------------------------------

Json dump_of(ModelConfig config) {
  Fields fields;
  config.describe(fields);
  return fields.dump();
}

TEST_F(Residuals, LeaveNoTraceInTheConfigOfAModelWithAdd) {
  EXPECT_FALSE(dump_of(gradients::small_model(Json::object())).contains("residual"));
  EXPECT_FALSE(dump_of(gradients::small_model({{"residual", "add"}})).contains("residual"));
}

TEST_F(Residuals, AreReadAgainAsTheyAreWritten) {
  const ModelConfig config = gradients::small_model({{"residual", {{"type", "depth"}, {"reach", 2}}}});
  const Json dump = dump_of(config);
  EXPECT_EQ(dump["residual"], Json::parse(R"({"type": "depth", "reach": 2})"));
  EXPECT_EQ(dump_of(model_config(dump)), dump);
  EXPECT_FALSE(config.residual.is_plain());
  EXPECT_FALSE(config.residual.part().in_python);
}

TEST_F(Residuals, RefuseWhatIsNoneOfTheirs) {
  const auto refusal = [](const Json& changes) { return user_error_of([&] { gradients::small_model(changes); }); };
  expect_contains(refusal({{"residual", {{"reach", 2}}}}),
                  {"model.residual.reach applies only when model.residual.type is \"depth\"", "\"add\""});
  expect_contains(refusal({{"residual", "dept"}}), {"model.residual.type is \"dept\"", "did you mean \"depth\"?"});
  expect_contains(refusal({{"residual", {{"type", "depth"}, {"reach", 9}}}}),
                  {"model.residual.reach = 9", "model.layers = 2", "5 states"});
}

}  // namespace
}  // namespace sluice
