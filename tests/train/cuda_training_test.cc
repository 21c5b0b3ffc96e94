// Whole training runs on the CUDA backend (the GPU, or the emulated device of builds without CUDA): against the CPU in
// fp32, twice the same bits, and resumed. Through Trainer, so with uploads, recorded steps, probes and checkpoints.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cuda_under_test.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

constexpr int64_t kSteps = 4;

TinyRuns::Overrides small(TinyRuns::Overrides more = {}) {
  // Two micro-batches a step, so that gradients are accumulated; small, because the emulated device is slow.
  TinyRuns::Overrides all = {"model.context=20",       "model.layers=1",         "train.batch=3",
                             "train.micro_batch=2",    "train.steps=4",          "log.probe_every=2",
                             "log.probe_batch=2",      "log.eval_every=2",       "log.eval_batch=2",
                             "log.map_positions=4",    "log.checkpoint_every=2", "train.schedule=constant",
                             "train.schedule.warmup=0"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

class CudaTraining : public testing::Test {
 protected:
  void SetUp() override {
    SLUICE_SKIP_WITHOUT_CUDA();
    backend_ = cuda_under_test();
  }

  int train(const std::string& run, const TinyRuns::Overrides& overrides) {
    Experiment experiment = runs_.experiment(overrides);
    const ResumeOption resume = ResumeOption::parse("auto");
    const RunFolder folder(runs_.path(run), experiment.dump(), resume);
    return Trainer(*backend_, experiment, TrainingData::open(experiment), &folder).run(resume);
  }

  // Every number of every line of two runs, by relative distance. What is compared are means over many tokens, which
  // differ by the rounding of what went into them: `tolerance` is a few dozen units of the arithmetic, after as many
  // ops in a row and kSteps updates whose AdamW steps divide by the gradient's own size.
  void expect_close(const std::string& run, const std::string& reference, double tolerance) {
    const std::vector<Json> got = runs_.metrics(run), want = runs_.metrics(reference);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      SCOPED_TRACE(want[i].dump());
      for (const auto& [key, value] : want[i].items()) {
        if (!value.is_number_float()) {
          EXPECT_EQ(got[i][key], value) << key;
          continue;
        }
        const double expected = value;
        EXPECT_NEAR(got[i][key].get<double>(), expected, tolerance * std::max(1.0, std::fabs(expected))) << key;
      }
    }
  }

  TinyRuns runs_;
  std::unique_ptr<Backend> backend_;
};

TEST_F(CudaTraining, Fp32RunsLikeTheCpu) {
  for (const AttentionPreset& preset : attention_presets()) {
    const std::string name = preset.name;
    SCOPED_TRACE(name);
    const auto overrides =
        small({"model.attention=" + name, "train.recompute=" + std::string(name == "vga" ? "block" : "none")});
    ASSERT_EQ(train("cuda_" + name, overrides), 0);
    ASSERT_EQ(runs_.train("cpu_" + name, overrides), 0);
    expect_close("cuda_" + name, "cpu_" + name, 1e-4);
  }
}

TEST_F(CudaTraining, Bf16RunsLikeTheCpu) {
  for (const std::string name : {"softmax", "vga", "gated_attention"}) {
    SCOPED_TRACE(name);
    const auto overrides =
        small({"model.attention=" + name, "train.precision=bf16", "model.mlp=gelu", "model.bias=true"});
    ASSERT_EQ(train("cuda_" + name, overrides), 0);
    ASSERT_EQ(runs_.train("cpu_" + name, overrides), 0);
    expect_close("cuda_" + name, "cpu_" + name, 0.05);
  }
}

// The bounds of the runs above: the parts of a LLaMA-like model round as those of the others do. Muon's matrices have
// singular values that are small beside the largest, and five steps multiply what rounds there by up to 3.4^5: hence
// 1e-3.
TEST_F(CudaTraining, LlamaLikeModelsAndMuonRunLikeTheCpu) {
  const TinyRuns::Overrides llama = {"model.norm=rmsnorm", "model.position=rope", "model.mlp=swiglu",
                                     "model.qk_norm=true", "model.kv_heads=1"};
  ASSERT_EQ(train("cuda", small(llama)), 0);
  ASSERT_EQ(runs_.train("cpu", small(llama)), 0);
  expect_close("cuda", "cpu", 1e-4);
  TinyRuns::Overrides muon = llama;
  muon.insert(muon.end(), {"train.optimizer.type=muon", "train.recompute=block"});
  ASSERT_EQ(train("cuda_muon", small(muon)), 0);
  ASSERT_EQ(runs_.train("cpu_muon", small(muon)), 0);
  expect_close("cuda_muon", "cpu_muon", 1e-3);
  muon.push_back("train.precision=bf16");
  ASSERT_EQ(train("cuda_bf16", small(muon)), 0);
  ASSERT_EQ(runs_.train("cpu_bf16", small(muon)), 0);
  expect_close("cuda_bf16", "cpu_bf16", 0.05);
}

TEST_F(CudaTraining, PartsOfPublishedFamiliesRunLikeOnTheCpu) {
  const auto overrides =
      small({"model.parallel_residual=true", "model.position=rope", "model.rotary_features=4", "model.mlp=gelu_erf",
             "model.head_size=6", "model.rope_scaling=llama3", "model.rope_scaling.original_context=64",
             "model.bias=false", "model.attention_bias=qkv", "train.recompute=block"});
  ASSERT_EQ(train("cuda", overrides), 0);
  ASSERT_EQ(runs_.train("cpu", overrides), 0);
  expect_close("cuda", "cpu", 1e-4);
}

TEST_F(CudaTraining, MaskedLanguageModelsRunLikeOnTheCpu) {
  for (const char* precision : {"fp32", "bf16"}) {
    const std::string name = precision;
    const auto overrides =
        small({"model.causal=false", "data={\"type\": \"random\", \"masking\": {\"share\": 0.3, \"token\": 66}}",
               "model.attention={\"type\": \"vga\", \"window\": 7}", "train.precision=" + name});
    ASSERT_EQ(train("cuda_" + name, overrides), 0);
    ASSERT_EQ(runs_.train("cpu_" + name, overrides), 0);
    expect_close("cuda_" + name, "cpu_" + name, name == "fp32" ? 1e-4 : 0.05);
  }
}

TEST_F(CudaTraining, TheSameRunGivesTheSameBits) {
  const auto overrides = small({"model.attention=vga", "train.precision=bf16"});
  int run = 0;
  for_thread_orders([&] { ASSERT_EQ(train("run" + std::to_string(run++), overrides), 0); });
  EXPECT_EQ(runs_.metrics("run0"), runs_.metrics("run1"));
  EXPECT_TRUE(runs_.weights("run0", kSteps) == runs_.weights("run1", kSteps));
}

TEST_F(CudaTraining, ResumesToEquality) {
  const auto overrides = small({"model.attention=input_gated"});
  ASSERT_EQ(train("straight", overrides), 0);
  ASSERT_EQ(train("parts", small({"model.attention=input_gated", "train.steps=2"})), 0);
  ASSERT_EQ(train("parts", overrides), 0);
  EXPECT_TRUE(runs_.weights("straight", kSteps) == runs_.weights("parts", kSteps));
}

TEST_F(CudaTraining, ACheckpointGoesFromOneDeviceToTheOther) {
  const auto first = small({"train.steps=2"}), all = small();
  ASSERT_EQ(train("run", first), 0);
  ASSERT_EQ(runs_.train("run", all), 0);  // on the CPU from the GPU's checkpoint
  ASSERT_EQ(runs_.train("cpu", all), 0);
  const std::vector<float> got = runs_.parameters("run", kSteps), want = runs_.parameters("cpu", kSteps);
  double distance = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    distance += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  EXPECT_LT(std::sqrt(distance), 1e-4 * std::sqrt(norm));
}

// Notes what it is told, and writes over a section's gradients when it opens: work of its own between the recorded
// parts of a step.
class NotingListener final : public GradientListener {
 public:
  NotingListener(Backend& backend, Transformer& model) : backend_(backend), model_(model) {}
  void open(int section) override {
    backend_.run(Fill{model_.params().bucket_grads(model_.params().bucket_of(section)), NAN});
    told += fmt::format("+{} ", section);
  }
  void close(int section) override { told += fmt::format("-{} ", section); }
  std::string told;

 private:
  Backend& backend_;
  Transformer& model_;
};

// A step that is recorded in parts, between which gradients are exchanged: run, recorded, replayed, it gives the
// gradients of one that is recorded whole, and every section is opened once before its first gradient and closed after
// its last.
TEST_F(CudaTraining, StepsAreRecordedBetweenExchanges) {
  for (const std::string tied : {"false", "true"}) {
    SCOPED_TRACE(tied);
    Experiment experiment = runs_.experiment(small({"model.layers=3", "model.tied_head=" + tied}));
    TransformerOptions options;
    options.max_batch = 2;
    options.gradients.bucket_parameters = 1;  // every section a bucket of its own
    Transformer model(*backend_, experiment.model, options);
    model.initialise(1);
    const int64_t T = experiment.model.context;
    NotingListener listener(*backend_, model);
    std::vector<int32_t> tokens(size_t(2 * T)), targets(size_t(2 * T));
    for (int step = 0; step < 3; ++step) {
      for (size_t i = 0; i < tokens.size(); ++i)
        tokens[i] = int32_t(i * 7 + size_t(step)) % 60, targets[i] = int32_t(i * 5) % 60;
      const auto gradients = [&](GradientListener* with) {
        const double loss = model.forward_backward({tokens.data(), targets.data(), 2, T}, 0.1, false, with);
        std::vector<float> out(1, float(loss));
        for (const ParamSpec& spec : model.params().specs()) {
          const Tensor gradient = model.params().grad(model.params().find(spec.name));
          std::vector<float> values(size_t(gradient.elements()));
          backend_->download(values.data(), gradient);
          out.insert(out.end(), values.begin(), values.end());
        }
        return out;
      };
      listener.told.clear();
      const std::vector<float> got = gradients(&listener), want = gradients(nullptr);
      EXPECT_EQ(listener.told, tied == "true" ? "+4 +0 -4 +3 -3 +2 -2 +1 -1 -0 " : "+4 -4 +3 -3 +2 -2 +1 -1 +0 -0 ")
          << step;
      EXPECT_EQ(got, want) << step;
    }
  }
}

}  // namespace
}  // namespace sluice
