#include "experiment/experiment.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "base/config/json_reader.h"
#include "base/console.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/utf8.h"

namespace sluice {
namespace {

constexpr double kUnbounded = std::numeric_limits<double>::infinity();

struct DecayName {
  const char* name;
  DecayGroup group;
};
constexpr DecayName kDecayNames[] = {{"matrix", DecayGroup::kMatrix},
                                     {"embedding", DecayGroup::kEmbedding},
                                     {"norm", DecayGroup::kNorm},
                                     {"vector", DecayGroup::kVector}};

// Sequences that one pass takes by default: about 8,192 tokens keep the matmuls busy and the activations near the
// cache.
int64_t default_micro_batch(int64_t batch, int64_t context) {
  constexpr int64_t kTokens = 8192;
  return std::clamp<int64_t>(kTokens / context, 1, batch);
}

// Every key of a config that names some.
Json with_defaults(const Json& json) {
  Experiment experiment;
  Fields fields;
  experiment.describe(fields);
  fields.parse(json, "");
  return fields.dump();
}

}  // namespace

void OptimizerConfig::describe(Fields& f) {
  f.add(
       "type", type,
       "the update rule; muon makes the momentum of the hidden matrices orthogonal and leaves the rest to adamw (needs "
       "train.zero = 0)")
      .one_of({"adamw", "sgd", "muon"});
  f.add("lr", lr, "peak learning rate").range(0, 1e3);
  f.add("adamw_lr", adamw_lr,
        "peak learning rate of what adamw updates (embeddings, head, gates, norms, biases); 0: lr")
      .range(0, 1e3)
      .when("type", {"muon"});
  f.add("muon_momentum", muon_momentum, "momentum of the hidden matrices (Nesterov's)")
      .range(0, 1)
      .below(1)
      .when("type", {"muon"});
  f.add("betas", betas, "decay rates of the first and second moment")
      .range(0, 1)
      .below(1)
      .exactly(2)
      .when("type", {"adamw", "muon"});
  // The lower bound is far from where fp32 rounds to 0, and 0 / 0 would be the update of a weight without gradient.
  f.add("epsilon", epsilon, "added to the root of the second moment").range(1e-30, 1).when("type", {"adamw", "muon"});
  f.add("momentum", momentum, "momentum, as in PyTorch (no dampening)").range(0, 1).when("type", {"sgd"});
  f.add("weight_decay", weight_decay, "decoupled for adamw and muon; added to the gradient for sgd").range(0, 1e3);
  std::vector<std::string> names;
  for (const DecayName& entry : kDecayNames) names.push_back(entry.name);
  f.add(
       "decay", decay,
       "what weight decay acts on: matrix (linear weights), embedding, norm (gains and biases of norms), vector (other "
       "biases)")
      .one_of(names);
}

std::vector<DecayGroup> OptimizerConfig::decay_groups() const {
  std::vector<DecayGroup> groups;
  for (const DecayName& entry : kDecayNames)
    if (std::find(decay.begin(), decay.end(), entry.name) != decay.end()) groups.push_back(entry.group);
  return groups;
}

void TrainConfig::describe(Fields& f) {
  f.add("steps", steps, "updates of the weights").range(0, kUnbounded).may_change();
  f.add("batch", batch, "sequences of one step, over all devices").range(1, 1 << 24);
  f.add("micro_batch", micro_batch,
        "most sequences a device takes at once, the rest is gradient accumulation; 0: about 8192 tokens")
      .range(0, 1 << 24)
      .may_change();
  f.add("precision", precision,
        "fp32, or bf16 (activations and matmuls in bf16; master weights, accumulation and statistics in fp32)");
  f.add("recompute", recompute,
        "what the backward pass computes again instead of keeping it: none, mlp (the MLP's first product), or block "
        "(everything but the blocks' inputs): less memory, more work, the same numbers")
      .may_change();
  f.add(
       "attention_backend", attention_backend,
       "whose attention kernels run on a GPU: own (every variant), or cudnn (plain softmax without bias slot, with or "
       "without "
       "a gate, in bf16 and without document_mask; its deterministic backward pass may take 2 B H T^2 bytes of memory)")
      .may_change();
  f.add("zero", zero,
        "what several ranks share instead of each having all of it (ZeRO): 0 nothing, 1 the optimizer's state, 2 that "
        "and "
        "the gradients")
      .range(0, 2)
      .may_change();
  f.add("bucket_mb", bucket_mb,
        "megabytes of gradients, at least, that ranks exchange at once while the backward pass goes on; 0: each layer "
        "by "
        "itself")
      .range(0, 1e4)
      .may_change();
  f.add(
       "rank_timeout", rank_timeout,
       "seconds that a rank waits for the others before the run ends with an error; longer than a step takes, and than "
       "the ranks' starts lie apart")
      .range(0.1, 86400)
      .may_change();
  f.add_group("optimizer", optimizer, "the optimizer");
  f.add_group("schedule", schedule, "the learning rate over the steps");
  f.add("grad_clip", grad_clip, "largest norm of the gradient, which is scaled down to it; 0: no clipping")
      .range(0, 1e9);
  f.add_group("guard", guard, "what happens to a step whose loss or gradient is not finite");
}

void LogConfig::describe(Fields& f) {
  f.add("every", every, "steps between train lines").range(1, kUnbounded);
  f.add("eval_every", eval_every, "steps between evaluations on held-out data; 0: never").range(0, kUnbounded);
  f.add("eval_batch", eval_batch,
        "held-out sequences of an evaluation, always the same ones; all where there are fewer")
      .range(1, 1 << 20);
  f.add("probe_every", probe_every, "steps between probes of attention, value and residual norms; 0: never")
      .range(0, kUnbounded);
  f.add("probe_batch", probe_batch, "held-out sequences of a probe").range(1, 1 << 20);
  f.add("map_positions", map_positions, "positions of the attention maps stored before and after training; 0: none")
      .range(0, 1024);
  f.add("analyze_every", analyze_every,
        "steps between full analyses (docs/analysis.md), which take about as long as a step on their tokens; 0: never")
      .range(0, kUnbounded);
  f.add("analyze_sequences", analyze_sequences, "held-out sequences of up to 64 tokens of an analysis")
      .range(1, 1 << 20);
  f.add("checkpoint_every", checkpoint_every, "steps between checkpoints; 0: only at the end").range(0, kUnbounded);
  f.add("keep", keep, "newest checkpoints that stay on disk; 0: all").range(0, 1 << 20);
}

void Experiment::describe(Fields& f) {
  f.add("name", name, "the run's name; without --out it goes to runs/NAME").may_change();
  f.add("seed", seed, "seed of initialisation and data");
  f.add("device", device, "where it runs; auto is the best device of this build and machine")
      .one_of({"auto", "cpu", "cuda"})
      .may_change();
  f.add_group("model", model, "the model");
  f.add_group("data", data, "what it is trained on");
  f.add_group("train", train, "how it is trained");
  f.add_group("log", log, "what is written while it trains").may_change();
}

void Experiment::resolve() {
  if (name.empty()) throw UserError("name is empty, but the run's folder is called after it");
  model.resolve();
  if (train.micro_batch == 0) train.micro_batch = default_micro_batch(train.batch, model.context);
  train.micro_batch = std::min(train.micro_batch, train.batch);
  check_schedule(train.schedule, train.steps);
  check_attention_backend();
  if (model.registers > 0 && data.document_mask)
    throw UserError(
        "model.registers = {} stand before a sequence, but with data.document_mask = true only its first document "
        "would "
        "see them: set one of the two to its default",
        model.registers);
  check_objective();
  if (log.analyze_every > 0 && model.context < 2)
    throw UserError("log.analyze_every: an analysis needs sequences of 2 tokens, but model.context is {}",
                    model.context);
  if (train.optimizer.type == "muon" && train.zero > 0)
    throw UserError(
        "train.zero = {} gives each rank a range of parameters that cuts through matrices, but "
        "train.optimizer.type = \"muon\" updates whole ones: set train.zero to 0, or the type to \"adamw\"",
        train.zero);
}

// What is predicted must not be seen, and what is seen be worth seeing.
void Experiment::check_objective() const {
  const MaskingConfig& masking = data.masking;
  if (!model.causal && masking.share == 0)
    throw UserError(
        "model.causal = false lets every token see the next one, which it is to predict: set data.masking.share, such "
        "as 0.15, or leave model.causal at true");
  if (model.causal && masking.share > 0)
    throw UserError(
        "data.masking.share = {} has tokens predicted from both sides: set model.causal to false, or the share to 0",
        masking.share);
  if (masking.replaced + masking.random > 1)
    throw UserError("data.masking.replaced + data.masking.random = {} + {}, but together they are at most 1",
                    masking.replaced, masking.random);
}

void Experiment::check_attention_backend() const {
  if (train.attention_backend != AttentionBackend::kCudnn) return;
  const auto need = [](bool holds, const std::string& what, const std::string& found) {
    if (!holds)
      throw UserError("train.attention_backend = \"cudnn\" needs {}, but {}: change that, or set it to \"own\"", what,
                      found);
  };
  need(device != "cpu", "a GPU", "device is cpu");
  need(train.precision == Precision::kBf16, "train.precision = \"bf16\"",
       fmt::format("it is {}", choice_name(train.precision)));
  for (const AttentionConfig* attention : model.attention.kinds())
    if (const auto unmet = attention->core_options().unmet_by_fused_softmax()) need(false, unmet->needs, unmet->found);
  need(model.causal, "model.causal = true", "it is false");
  need(!data.document_mask, "data.document_mask = false", "it is true");
  need(model.head_size() % 8 == 0 && model.value_head_size() % 8 == 0, "heads of a multiple of 8 features",
       fmt::format("a query has {} and a value {} (model.head_size, model.value_head_size)", model.head_size(),
                   model.value_head_size()));
  need(model.context > 1, "sequences of 2 tokens", fmt::format("model.context is {}", model.context));
}

Json Experiment::dump() {
  Fields fields;
  describe(fields);
  return fields.dump();
}

void check_folder_name(const std::string& name, const std::string& key) {
  constexpr size_t kLongest = 200;  // file systems allow 255 bytes, and names get endings
  const auto refuse = [&](const std::string& why) {
    throw UserError("{} is \"{}\", but it names a folder and {}", key, excerpt(name, kMostQuoted), why);
  };
  const std::string_view text = name;
  if (text == "." || text == "..") refuse("must not lead to another one");
  if (text.find('/') != std::string_view::npos) refuse("must have no / (--out takes a path)");
  if (name.size() > kLongest) refuse(fmt::format("may have at most {} bytes, not {}", kLongest, name.size()));
  if (scan_utf8(name).valid != name.size()) refuse("must be valid UTF-8");
  for (std::string_view rest = name; !rest.empty();) {
    const char32_t character = take_character(rest);
    if (character < 0x20 || (character >= 0x7F && character < 0xA0))
      throw UserError("{} has the control character U+{:04X}, but it names a folder", key, uint32_t(character));
  }
}

bool is_resolved_config(const Json& json) {
  for (const char* key : {"name", "seed", "device"}) {
    if (!json.is_object() || !json.contains(key)) return false;
  }
  for (const char* key : {"model", "data", "train", "log"}) {
    const auto group = json.find(key);
    if (group == json.end() || !group->is_object()) return false;
  }
  return json.at("train").contains("steps");
}

Experiment parse_experiment(const Json& json) {
  Experiment experiment;
  Fields fields;
  experiment.describe(fields);
  fields.parse(json, "");
  experiment.resolve();
  return experiment;
}

ExperimentLayers::ExperimentLayers() : ExperimentLayers(std::make_shared<Description>()) {}

ExperimentLayers::ExperimentLayers(std::shared_ptr<Description> description)
    : ConfigLayers(description->fields, with_defaults), description_(std::move(description)) {}

Experiment ExperimentLayers::parse() const {
  try {
    Experiment experiment = parse_experiment(json());
    check_folder_name(experiment.name, "name");
    return experiment;
  } catch (const UserError& error) {
    throw UserError("{}", with_places(error.what()));
  }
}

void ExperimentLayers::add_files(const std::string& path) {
  std::vector<ConfigFile> files = read_config_files(path);
  for (ConfigFile& file : files) {
    if (&file != &files.back() && is_resolved_config(file.json)) file.json.erase("name");
    add(file.json, file.path);
  }
}

namespace {

namespace fs = std::filesystem;

// A folder in the place of a config, or nothing, as of a variable that is not set.
void refuse_no_file(const std::string& path) {
  if (path.empty()) throw UserError("a config is asked for, but its path is empty");
  std::error_code unknown;
  if (!fs::is_directory(path, unknown)) return;
  const std::string config = (fs::path(path) / "config.json").string();
  if (fs::exists(fs::path(path) / "state.json", unknown))
    throw UserError(
        "{} is a checkpoint, and a config is asked for; a run begins from it with sluice train CONFIG --resume {} "
        "--out DIR",
        path, path);
  if (!fs::exists(config, unknown))
    throw UserError("{} is a folder, and a config is asked for, which is a JSON file", path);
  throw UserError(
      "{} is a run's folder, and a config is asked for, such as {}; to go on with the run: sluice train {} --out {}",
      path, config, config, path);
}

// The name of the folder `out`, where the run whose config.json this is lies elsewhere; empty where it is the same, or
// where the folder cannot give a name.
std::string name_of_other_run(const fs::path& config, const std::string& out) {
  if (out.empty()) return "";
  std::error_code unknown;
  const fs::path folder = (fs::absolute(out) / "").lexically_normal().parent_path();
  if (fs::equivalent(fs::absolute(config).parent_path(), folder, unknown)) return "";
  try {
    check_folder_name(folder.filename().string(), "name");
  } catch (const UserError&) {
    return "";
  }
  return folder.filename().string();
}

}  // namespace

Experiment load_experiment(const std::string& path, const std::vector<std::string>& overrides, const std::string& out) {
  refuse_no_file(path);
  ExperimentLayers layers;
  layers.add_files(path);
  if (is_resolved_config(layers.json()) && fs::path(path).filename() == "config.json") {
    if (const std::string name = name_of_other_run(path, out); !name.empty()) layers.json()["name"] = name;
  }
  if (layers.json().contains("variants"))
    throw UserError("{} is a sweep, not a config: sluice sweep {} trains it", path, path);
  layers.add_overrides(overrides);
  for (const std::string& note : layers.notes()) tell("note: {}", note);
  if (!layers.json().contains("name")) layers.json()["name"] = std::filesystem::path(path).stem().string();
  return layers.parse();
}

}  // namespace sluice
