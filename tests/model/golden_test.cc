// Golden parity: Sluice's logits, losses and gradients against PyTorch's in float64, for every case of
// tests/golden/cases.json (see the README there). Initial values are not stored: both sides draw them from Philox, so
// the parameters' names, shapes and initialisation are compared too.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <set>
#include <stdexcept>

#include "base/config/json_text.h"
#include "base/source_folder.h"
#include "model/config/score.h"
#include "model/golden_random.h"
#include "model/parity.h"
#include "runs/tensors/safetensors.h"
#include "train/optimizer.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int kSketch = 32;

constexpr double kLossBound32 = 1e-4, kLossBound64 = 1e-9;

std::filesystem::path golden_folder() { return source_folder() / "tests" / "golden"; }

// ---- cases -------------------------------------------------------------------------------------------------------

struct GoldenCase {
  std::string name;
  Json json;
  uint64_t seed;
  int64_t batch;
  ModelConfig config;
  std::vector<int32_t> tokens, targets;  // [B, T]

  GoldenCase(std::string case_name, Json description)
      : name(std::move(case_name)),
        json(std::move(description)),
        seed(json["seed"].get<uint64_t>()),
        batch(json["batch"].get<int64_t>()),
        config(model_config(json["model"])) {
    const int64_t T = config.context;
    const auto token = [&](int64_t i) { return int32_t(golden_word(seed, kTokens, size_t(i)) % config.vocab_size); };
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t t = 0; t < T; ++t) {
        tokens.push_back(token(b * (T + 1) + t));
        targets.push_back(token(b * (T + 1) + t + 1));
      }
  }
  int64_t rows() const { return batch * config.context; }
};

Json case_list(const char* part) { return read_json_file((golden_folder() / "cases.json").string())[part]; }

std::vector<GoldenCase> model_cases() {
  std::vector<GoldenCase> out;
  const Json models = case_list("models");
  for (const Json& one : models) out.emplace_back(one["name"].get<std::string>(), one);
  return out;
}

std::vector<GoldenCase> attention_cases() {
  std::vector<GoldenCase> out;
  const Json shared = case_list("attention");
  Json variants = shared["variants"];
  for (const std::string& score : score_names())
    if (!variants.contains(score)) variants[score] = {{"attention", score}};
  for (const auto& [name, changes] : variants.items()) {
    Json one = shared;
    one["model"].update(changes);
    out.emplace_back("attention_" + name, one);
  }
  return out;
}

std::vector<DecayGroup> decay_groups(const Json& run) {
  if (!run.contains("decay")) return TransformerOptions{}.decayed;
  std::vector<DecayGroup> out;
  for (const Json& group : run["decay"]) {
    if (group == "matrix") out.push_back(DecayGroup::kMatrix);
    else if (group == "embedding") out.push_back(DecayGroup::kEmbedding);
    else throw std::logic_error("cases.json: unknown decay group " + group.dump());
  }
  return out;
}

// The model at its first values, scattered where the case says so.
Transformer start(Backend& backend, const GoldenCase& golden, DType act, const std::vector<DecayGroup>& decayed) {
  Transformer model(backend, golden.config,
                    {.act = act, .max_batch = golden.batch, .training = true, .decayed = decayed});
  model.initialise(golden.seed);
  if (const double scatter = golden.json.value("scatter", 0.0); scatter != 0)
    scatter_values(model, golden.seed, scatter);
  return model;
}

// ---- comparison --------------------------------------------------------------------------------------------------

class GoldenFile {
 public:
  explicit GoldenFile(const GoldenCase& golden)
      : file_(golden_folder() / (golden.name + ".safetensors")), name_(golden.name), seed_(golden.seed) {}

  Values read(const std::string& tensor) const {
    const StoredTensor* stored = file_.find(tensor);
    if (!stored) throw std::runtime_error("the golden file of " + name_ + " has no tensor " + tensor);
    std::vector<char> bytes(stored->bytes);
    file_.read(*stored, bytes.data());
    return values_of(Tensor(bytes.data(), stored->dtype.value(), stored->shape));
  }

  // The tensor's relative error stays within the bound of its type. A stored fp32 value has itself an error of 6e-8.
  void compare(const std::string& tensor, const Values& values, DType act) const {
    const StoredTensor* whole = file_.find(tensor);
    const double bound = act == DType::kF32 ? 1e-5 : whole && whole->dtype == DType::kF32 ? 1e-7 : 1e-10;
    EXPECT_LE(error_of(tensor, values), bound) << name_ << ", " << name_of(act) << ": relative error of " << tensor;
  }

  // |values - golden| / |golden|, an estimate where only a sketch is stored; infinite where the sizes differ.
  double error_of(const std::string& tensor, const Values& values) const {
    if (!file_.find(tensor)) return sketch_distance(tensor, values, read("sketch." + tensor));
    const Values golden = read(tensor);
    return golden.size() == values.size() ? distance(values, golden) : std::numeric_limits<double>::infinity();
  }

  const SafetensorsFile& file() const { return file_; }

 private:
  // From the norm and 32 projections on random signs: the mean square of the projections' differences estimates
  // |x - y|^2 without bias (see the README).
  double sketch_distance(const std::string& tensor, const Values& values, const Values& golden) const {
    Values projections(kSketch);
    for (size_t i = 0; i < values.size(); ++i) {
      const uint32_t word = golden_word(seed_, kSigns ^ name_hash(tensor), i);
      for (int k = 0; k < kSketch; ++k) projections[size_t(k)] += word >> k & 1 ? -values[i] : values[i];
    }
    double square = 0;
    for (size_t k = 0; k < kSketch; ++k) square += std::pow(projections[k] - golden[k + 1], 2) / kSketch;
    return std::sqrt(square) / golden[0];
  }

  SafetensorsFile file_;
  std::string name_;
  uint64_t seed_;
};

// Parameters that only one of the two has.
void compare_names(const GoldenCase& golden, const GoldenFile& file, const Transformer& model) {
  std::set<std::string> ours, theirs;
  for (const ParamSpec& spec : model.params().specs()) ours.insert(spec.name);
  for (const StoredTensor& stored : file.file().tensors())
    if (const size_t at = stored.name.find("grad."); at != std::string::npos) theirs.insert(stored.name.substr(at + 5));
  EXPECT_EQ(ours, theirs) << golden.name << ": the parameters' names";
}

void compare_gradients(const GoldenFile& file, const Transformer& model) {
  for (const ParamSpec& spec : model.params().specs())
    file.compare("grad." + spec.name, gradient(model, spec.name), model.act());
}

void compare_case(Backend& backend, const GoldenCase& golden, DType act) {
  const GoldenFile file(golden);
  Transformer model = start(backend, golden, act, TransformerOptions{}.decayed);
  compare_names(golden, file, model);
  file.compare("logits", logits_of(model, golden.tokens, golden.batch, golden.config.context), act);
  const double scale = 1.0 / double(golden.rows());
  const double loss =
      scale * model.forward_backward({golden.tokens.data(), golden.targets.data(), golden.batch, golden.config.context},
                                     scale, false);
  file.compare("loss", {loss}, act);
  compare_gradients(file, model);
}

// ---- training ----------------------------------------------------------------------------------------------------

OptimizerConfig optimizer_config(const Json& run) {
  OptimizerConfig config;
  config.type = run["type"];
  config.lr = run["lr"];
  config.weight_decay = run["weight_decay"];
  config.betas = run.value("betas", config.betas);
  config.momentum = config.muon_momentum = run.value("momentum", 0.0);
  config.adamw_lr = run.value("adamw_lr", 0.0);
  return config;
}

void compare_run(Backend& backend, const GoldenCase& golden, const Json& run, DType act) {
  const Values expected = GoldenFile(golden).read("losses." + run["name"].get<std::string>());
  Transformer model = start(backend, golden, act, decay_groups(run));
  const OptimizerConfig config = optimizer_config(run);
  const GradientExchange gradients(backend, model.params(), one_rank(), 0);
  const auto optimizer =
      make_optimizer(backend, model.params(), gradients, Partition(model.params().buckets(), 0, 1), config);
  const double scale = 1.0 / double(golden.rows());
  for (size_t step = 0; step < expected.size(); ++step) {
    const double loss =
        scale * model.forward_backward(
                    {golden.tokens.data(), golden.targets.data(), golden.batch, golden.config.context}, scale, false);
    EXPECT_NEAR(loss, expected[step], act == DType::kF32 ? kLossBound32 : kLossBound64)
        << golden.name << ", " << name_of(act) << ": loss of run " << run["name"] << " before step " << step + 1;
    optimizer->update(config.lr, 1);
  }
}

TEST(Golden, LogitsAndGradientsOfTheModels) {
  const auto backend = make_cpu_backend();
  for (const GoldenCase& golden : model_cases())
    for (const DType act : {DType::kF32, DType::kF64}) compare_case(*backend, golden, act);
}

TEST(Golden, LogitsAndGradientsOfEveryAttention) {
  const auto backend = make_cpu_backend();
  for (const GoldenCase& golden : attention_cases())
    for (const DType act : {DType::kF32, DType::kF64}) compare_case(*backend, golden, act);
}

// What is stored as a sketch fails for errors in one element and in all of them.
TEST(Golden, SketchesMeasureErrors) {
  const auto backend = make_cpu_backend();
  const GoldenCase golden = model_cases().back();
  const GoldenFile file(golden);
  const std::string name = "blocks.0.mlp.up.weight";
  Transformer model = start(*backend, golden, DType::kF32, TransformerOptions{}.decayed);
  model.forward_backward({golden.tokens.data(), golden.targets.data(), golden.batch, golden.config.context},
                         1.0 / double(golden.rows()), false);
  const Values right = gradient(model, name);
  constexpr double kError = 1e-3;

  Values one = right, all = right;
  one[777] += kError * norm_of(right);
  for (size_t i = 0; i < all.size(); ++i) all[i] += (i / 3 % 2 ? kError : -kError) * right[i];
  EXPECT_NEAR(file.error_of("grad." + name, one), kError, 0.02 * kError);
  EXPECT_NEAR(file.error_of("grad." + name, all), kError, 0.4 * kError);
}

TEST(Golden, AccumulatedGradientsOfTheModels) {
  const auto backend = make_cpu_backend();
  for (const GoldenCase& golden : model_cases()) {
    Transformer model = start(*backend, golden, DType::kF32, TransformerOptions{}.decayed);
    const int64_t T = golden.config.context;
    for (int64_t b = 0; b < golden.batch; ++b)
      model.forward_backward({golden.tokens.data() + b * T, golden.targets.data() + b * T, 1, T},
                             1.0 / double(golden.rows()), b > 0);
    compare_gradients(GoldenFile(golden), model);
  }
}

TEST(Golden, FirstLossesOfTheModels) {
  const auto backend = make_cpu_backend();
  for (const GoldenCase& golden : model_cases())
    for (const Json& run : golden.json["runs"])
      for (const DType act : {DType::kF32, DType::kF64}) compare_run(*backend, golden, run, act);
}

TEST(Golden, EveryPresetHasACase) {
  const std::vector<GoldenCase> cases = attention_cases();
  for (const AttentionPreset& preset : attention_presets())
    EXPECT_TRUE(
        std::any_of(cases.begin(), cases.end(),
                    [&](const GoldenCase& golden) { return golden.name == std::string("attention_") + preset.name; }))
        << preset.name
        << ": write its values with tests/golden/make_golden.py; what is no score needs a case in cases.json";
}

}  // namespace
}  // namespace sluice
