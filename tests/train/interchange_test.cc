// Folders of the transformers library, in both directions. What the library computes for tests/golden/transformers/*
// was written down by make.py there; scripts/check_transformers.py runs the library itself.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <optional>

#include "base/error_text.h"
#include "base/json_text.h"
#include "base/source_folder.h"
#include "data/temp_folder.h"
#include "kernels/cpu/cpu_backend.h"
#include "model/parity.h"
#include "train/failures.h"
#include "train/interchange/export.h"
#include "train/interchange/import.h"
#include "train/load_model.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using parity::Values;

const std::vector<std::string> kFolders = {"gpt2",     "gpt2_first", "gpt2_untied",     "llama", "llama_biases",
                                           "llama3",   "llama_linear", "mistral",      "qwen2", "qwen3",
                                           "qwen3_head_size", "opt",  "gpt_neox", "gpt_neox_serial"};

// Families that are read, and written as another.
bool changes_names(const std::string& name) { return name == "gpt2_first" || name == "opt" || name.starts_with("gpt_neox"); }

// Relative to the norm of the logits, and above what fp32 rounding of two layers gives in another order of summation
// (about 1e-6); the golden values of tests/golden have the same bound.
constexpr double kLogitBound = 1e-5;

fs::path golden(const std::string& name) { return source_folder() / "tests/golden/transformers" / name; }

struct Imported {
  ForeignModel foreign;
  ImportResult result;
};

Imported import_to(const fs::path& folder, const fs::path& out, int64_t context = 0) {
  Imported imported{read_foreign_model(folder, context), {}};
  Json config = {{"data", "random"}};
  config["model"] = model_group(imported.foreign.model);
  imported.result = import_folder(folder, imported.foreign, parse_experiment(config), out);
  return imported;
}

ExportResult export_to(const fs::path& run, const fs::path& out, const ExportOptions& options = {}) {
  std::vector<std::string> damaged;
  const Checkpoint checkpoint = open_checkpoint(run, damaged);
  return export_checkpoint(checkpoint, stored_experiment(checkpoint).model, out, options);
}

using Weights = std::map<std::string, std::vector<float>>;

Weights weights_of(const fs::path& file) {
  const SafetensorsFile stored(file);
  Weights out;
  for (const StoredTensor& tensor : stored.tensors()) {
    if (tensor.type == "U8" || tensor.type == "I32") continue;  // a mask, tokens
    std::vector<float>& values = out[tensor.name];
    values.resize(size_t(tensor.shape.elements()));
    const int64_t rows = tensor.shape.rank() > 1 ? tensor.shape.rows() : tensor.shape.elements();
    stored.read_floats(tensor, 0, rows, values.data());
  }
  return out;
}

fs::path newest_weights(const fs::path& run) {
  std::vector<std::string> damaged;
  return open_checkpoint(run, damaged).path / "model.safetensors";
}

Values logits_of(const fs::path& run, const std::vector<int32_t>& tokens) {
  const auto backend = make_cpu_backend();
  const LoadedModel loaded = load_model(run, *backend, {.max_batch = 1, .act = DType::kF32});
  Values logits;
  const Pass pass = loaded.model->forward(tokens.data(), 1, int64_t(tokens.size()));
  loaded.model->for_logits(pass, [&](int64_t, const Tensor& rows) {
    const Values part = parity::values_of(rows);
    logits.insert(logits.end(), part.begin(), part.end());
  });
  return logits;
}

struct Expected {
  std::vector<int32_t> tokens;
  Values logits;
};

Expected expected_logits(const fs::path& folder) {
  const SafetensorsFile file(folder / "logits.safetensors");
  Expected out;
  out.tokens.resize(size_t(file.find("tokens")->shape.elements()));
  file.read(*file.find("tokens"), out.tokens.data());
  const std::vector<float> logits = weights_of(file.path()).at("logits");
  out.logits.assign(logits.begin(), logits.end());
  return out;
}

// ---- what the library computes -------------------------------------------------------------------------------------

TEST(Interchange, ImportedModelsComputeWhatTransformersDoes) {
  for (const std::string& name : kFolders) {
    const TempFolder folder;
    import_to(golden(name), folder.file("run"));
    const Expected expected = expected_logits(golden(name));
    EXPECT_LT(parity::distance(logits_of(folder.file("run"), expected.tokens), expected.logits), kLogitBound) << name;
  }
}

TEST(Interchange, AnExportHasTheWeightsOfTheImportedFolder) {
  for (const std::string& name : kFolders) {
    const TempFolder folder;
    const Imported imported = import_to(golden(name), folder.file("run"));
    export_to(folder.file("run"), folder.file("out"));
    EXPECT_EQ(export_to(folder.file("run"), folder.file("again"), {.logits = 5}).parameters,
              imported.result.parameters);
    const Weights exported = weights_of(folder.file("out") + "/model.safetensors");
    import_to(folder.file("out"), folder.file("second"));
    EXPECT_EQ(weights_of(newest_weights(folder.file("run"))), weights_of(newest_weights(folder.file("second"))))
        << name;
    if (changes_names(name)) continue;
    EXPECT_EQ(exported, weights_of(golden(name) / "model.safetensors")) << name;
  }
}

TEST(Interchange, AnExportsConfigSaysWhatTheFoldersSaid) {
  for (const std::string& name : kFolders) {
    if (changes_names(name) && name != "gpt2_first") continue;
    const TempFolder folder;
    import_to(golden(name), folder.file("run"));
    export_to(folder.file("run"), folder.file("out"));
    const Json before = read_json_file((golden(name) / "config.json").string());
    const Json after = read_json_file(folder.file("out") + "/config.json");
    for (const auto& [key, value] : after.items()) {
      if (key.ends_with("_pdrop") || key == "torch_dtype" || key == "architectures") continue;
      if (name == "mistral" && key == "model_type") continue;        // without a window it is a LLaMA
      if (!before.contains(key) || before[key].is_null()) continue;  // left to the library's default
      EXPECT_EQ(value, before[key]) << name << ": " << key;
    }
    EXPECT_EQ(after["torch_dtype"], "float32");
  }
}

// transformers has no such notion, so that only the way back can show it.
TEST(Interchange, TheFirstTokenOfEveryWindowIsKept) {
  TempFolder folder;
  const fs::path run = folder.file("run"), out = folder.file("out");
  import_to(golden("gpt2"), run);
  ExportOptions options;
  options.first_token = 3;
  export_to(run, out, options);
  EXPECT_EQ(read_foreign_model(out, 0).first_token, 3);
  EXPECT_EQ(read_foreign_model(golden("gpt2"), 0).first_token, -1);
  Json config = read_json_file((out / "config.json").string());
  config["sluice_first_token"] = config["vocab_size"];
  EXPECT_NE(message_of<UserError>([&] { read_foreign_config(config, "config.json", 0); }).find("which is no token of the model"),
            std::string::npos);
}

TEST(Interchange, WhatIsIgnoredIsNamed) {
  const TempFolder folder;
  EXPECT_EQ(import_to(golden("gpt2_first"), folder.file("run")).result.ignored,
            std::vector<std::string>{"h.0.attn.bias"});
  EXPECT_TRUE(import_to(golden("gpt2"), folder.file("other")).result.ignored.empty());
}

TEST(Interchange, AShorterContextTakesTheFirstPositions) {
  const TempFolder folder;
  import_to(golden("gpt2"), folder.file("run"), 10);
  Expected expected = expected_logits(golden("gpt2"));
  const size_t vocab = expected.logits.size() / expected.tokens.size();
  expected.tokens.resize(10);
  expected.logits.resize(10 * vocab);
  EXPECT_LT(parity::distance(logits_of(folder.file("run"), expected.tokens), expected.logits), kLogitBound);
  expect_contains(message_of<UserError>([&] { import_to(golden("gpt2"), folder.file("longer"), 25); }),
                  {"--context 25", "24 learned positions"});
}

// ---- our own model file ---------------------------------------------------------------------------------------------

struct Variant {
  std::string name;
  Json changes;
};

std::vector<Variant> variants() {
  std::vector<Variant> out;
  for (const AttentionPreset& preset : attention_presets()) out.push_back({preset.name, {{"attention", preset.name}}});
  out.push_back({"no_position", {{"position", "none"}}});
  out.push_back({"rope", {{"position", "rope"}, {"rope_theta", 100.0}}});
  out.push_back({"rmsnorm", {{"norm", "rmsnorm"}}});
  out.push_back({"swiglu", {{"mlp", "swiglu"}, {"mlp_width", 24}}});
  out.push_back({"qk_norm", {{"qk_norm", true}}});
  out.push_back({"relu_squared", {{"mlp", "relu_squared"}, {"attention", "vga"}}});
  out.push_back({"no_bias", {{"bias", false}}});
  out.push_back({"shared_values", {{"kv_heads", 1}}});
  out.push_back({"head_size", {{"head_size", 12}}});
  out.push_back({"gelu_erf_parallel", {{"mlp", "gelu_erf"}, {"parallel_residual", true}}});
  out.push_back({"some_biases", {{"bias", false}, {"attention_bias", "qkv"}}});
  out.push_back({"part_rope", {{"position", "rope"}, {"rotary_features", 4}, {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}});
  return out;
}

// A checkpoint of the model's first values in the folder `run`, or of one value everywhere.
void write_run(const fs::path& run, const Variant& variant, std::optional<float> value = std::nullopt) {
  Json model = {{"vocab_size", 19}, {"context", 12}, {"layers", 2}, {"heads", 2}, {"width", 16}};
  model.update(variant.changes);
  Experiment experiment = parse_experiment({{"model", model}, {"data", "random"}});
  const auto backend = make_cpu_backend();
  Transformer transformer(*backend, experiment.model, {.training = false});
  transformer.initialise(5);
  if (value) backend->fill(transformer.params().all_values(), *value);
  std::vector<NamedTensor> tensors;
  for (const ParamSpec& spec : transformer.params().specs())
    tensors.push_back({spec.name, transformer.params().value(transformer.params().find(spec.name))});
  CheckpointState state;
  state.config = experiment.dump();
  CheckpointStore(run / "checkpoints", 0).save(state, tensors, {});
}

TEST(Interchange, EveryVariantGoesOutAndComesBack) {
  for (const Variant& variant : variants()) {
    const TempFolder folder;
    write_run(folder.file("run"), variant);
    const ExportResult result = export_to(folder.file("run"), folder.file("out"), {.logits = 12});
    const bool plain = variant.name == "softmax";
    EXPECT_EQ(result.architecture, plain ? Architecture::kGpt2 : Architecture::kSluice) << variant.name;
    EXPECT_EQ(fs::exists(folder.file("out") + "/modeling_sluice.py"), !plain) << variant.name;

    const Imported imported = import_to(folder.file("out"), folder.file("back"));
    EXPECT_EQ(weights_of(newest_weights(folder.file("back"))), weights_of(newest_weights(folder.file("run"))))
        << variant.name;
    const Expected expected = expected_logits(folder.file("out"));
    EXPECT_EQ(logits_of(folder.file("back"), expected.tokens), expected.logits) << variant.name;
    if (plain) continue;
    const Json config = read_json_file(folder.file("out") + "/config.json");
    EXPECT_EQ(config["sluice_model"], model_group(imported.foreign.model)) << variant.name;
    EXPECT_EQ(config["auto_map"]["AutoModelForCausalLM"], "modeling_sluice.SluiceForCausalLM");
  }
}

TEST(Interchange, TheModelFileIsExportedAsItIs) {
  const TempFolder folder;
  write_run(folder.file("run"), {"vga", {{"attention", "vga"}}});
  export_to(folder.file("run"), folder.file("out"));
  EXPECT_EQ(read_file(folder.file("out") + "/modeling_sluice.py"),
            read_file(source_folder() / "src/train/interchange/modeling_sluice.py"));
}

// ---- types ----------------------------------------------------------------------------------------------------------

TEST(Interchange, NarrowTypesRound) {
  const TempFolder folder;
  import_to(golden("gpt2"), folder.file("run"));
  const Weights exact = weights_of(golden("gpt2") / "model.safetensors");
  // Half of the distance between two neighbours, relative: 8 bits of mantissa in bfloat16 and 11 in float16.
  for (const auto& [type, bound] : {std::pair{"bfloat16", 0x1p-8}, std::pair{"float16", 0x1p-11}}) {
    const std::string out = folder.file(type);
    export_to(folder.file("run"), out, {.type = type});
    EXPECT_EQ(read_json_file(out + "/config.json")["torch_dtype"], type);
    for (const auto& [name, values] : weights_of(out + "/model.safetensors"))
      for (size_t i = 0; i < values.size(); ++i)
        EXPECT_NEAR(values[i], exact.at(name)[i], bound * std::abs(exact.at(name)[i]) + 0x1p-25) << name;
  }
}

TEST(Interchange, AWeightBeyondFloat16IsNamed) {
  const TempFolder folder;
  const Variant plain{"softmax", Json::object()};
  write_run(folder.file("fits"), plain, 65519.0f);  // rounded to 65504
  EXPECT_NO_THROW(export_to(folder.file("fits"), folder.file("fits_out"), {.type = "float16"}));
  write_run(folder.file("large"), plain, 65520.0f);
  expect_contains(
      message_of<UserError>([&] { export_to(folder.file("large"), folder.file("out"), {.type = "float16"}); }),
      {"transformer.wte.weight", "65520", "float16", "--dtype"});
  EXPECT_FALSE(fs::exists(folder.file("out")));
  EXPECT_NO_THROW(export_to(folder.file("large"), folder.file("out"), {.type = "bfloat16"}));
}

// ---- bad input ------------------------------------------------------------------------------------------------------

// A copy of a golden folder, to be changed.
class ChangedFolder {
 public:
  explicit ChangedFolder(const std::string& name) { fs::copy(golden(name), path()); }

  fs::path path() const { return fs::path(folder_.file("folder")); }

  void config(const Json& changes) const {
    const std::string file = (path() / "config.json").string();
    Json config = read_json_file(file);
    config.update(changes);
    for (const auto& [key, value] : changes.items())
      if (value == "(removed)") config.erase(key);
    write_file_atomic(file, config.dump());
  }
  // The weights again, as the change leaves them: name -> tensor.
  void weights(const std::function<void(std::vector<NamedTensor>&)>& change) const {
    std::vector<NamedTensor> tensors;
    Weights values = weights_of(path() / "model.safetensors");
    {
      const SafetensorsFile file(path() / "model.safetensors");
      for (const StoredTensor& stored : file.tensors())
        tensors.push_back({stored.name, Tensor(values.at(stored.name).data(), DType::kF32, stored.shape)});
    }
    change(tensors);
    write_safetensors(path() / "model.safetensors", tensors);
  }

  std::string problem(int64_t context = 0) const {
    const std::string out = folder_.file("out");
    const std::string text = message_of<UserError>([&] { import_to(path(), out, context); });
    EXPECT_FALSE(fs::exists(out)) << text;
    EXPECT_FALSE(fs::exists(out + ".tmp")) << text;
    return text;
  }

 private:
  TempFolder folder_;
};

TEST(Interchange, WhatSluiceCannotFollowIsNamed) {
  struct Case {
    Json changes;
    std::vector<std::string> words;
  };
  const std::vector<Case> cases = {
      {{{"model_type", "bloom"}}, {"config.json", "model_type is \"bloom\"", "gpt2", "llama"}},
      {{{"model_type", "gpt_oss"}}, {"model_type is \"gpt_oss\"", "mixture of experts", "sink_logit"}},
      {{{"model_type", "(removed)"}}, {"model_type is missing"}},
      {{{"activation_function", "mish"}}, {"activation_function is \"mish\"", "gelu_new"}},
      {{{"activation_function", 3}}, {"activation_function is 3", "string"}},
      {{{"scale_attn_by_inverse_layer_idx", true}}, {"scale_attn_by_inverse_layer_idx is true"}},
      {{{"scale_attn_weights", false}}, {"scale_attn_weights is false"}},
      {{{"add_cross_attention", true}}, {"add_cross_attention is true"}},
      {{{"quantization_config", {{"bits", 4}}}}, {"quantization_config", "F16"}},
      {{{"n_embd", "(removed)"}}, {"n_embd is missing", "integer"}},
      {{{"n_embd", 12.5}}, {"n_embd is 12.5", "integer"}},
      {{{"n_head", 5}}, {"config.json", "model.heads = 5", "12"}},
      {{{"n_layer", 100000}}, {"config.json", "model.layers", "1000"}},
      {{{"n_layer", -1}}, {"config.json", "model.layers", "-1"}},
      {{{"n_layer", 3}}, {"no tensor transformer.h.2.ln_1.weight [12]"}},
      {{{"n_layer", 1}}, {"transformer.h.1.", "not part of the model", "gpt2"}},
      {{{"vocab_size", 32}}, {"transformer.wte.weight is [31,12], but [32,12] by config.json"}},
      {{{"n_positions", 25}}, {"transformer.wpe.weight is [24,12], but [25,12]"}},
      {{{"n_inner", 20}}, {"mlp.c_fc.weight is [12,48], but [12,20]"}},
      {{{"tie_word_embeddings", false}}, {"no tensor lm_head.weight [31,12]"}},
  };
  for (const Case& one : cases) {
    const ChangedFolder folder("gpt2");
    folder.config(one.changes);
    expect_contains(folder.problem(), one.words);
  }
}

TEST(Interchange, WhatSluiceCannotFollowOfLlamaIsNamed) {
  struct Case {
    Json changes;
    std::vector<std::string> words;
  };
  const Json scaled = {{"rope_type", "yarn"}, {"factor", 8.0}};
  const std::vector<Case> cases = {
      {{{"hidden_act", "gelu"}}, {"hidden_act is \"gelu\"", "silu"}},
      {{{"rope_scaling", scaled}}, {"rope_scaling.rope_type is \"yarn\"", "llama3"}},
      {{{"rope_parameters", scaled}}, {"rope_parameters.rope_type is \"yarn\"", "linear"}},
      {{{"rope_scaling", {{"type", "llama3"}, {"factor", 8.0}}}}, {"rope_scaling.low_freq_factor is missing"}},
      {{{"rope_scaling", {{"type", "linear"}}}}, {"rope_scaling.factor is missing"}},
      {{{"rope_scaling", {{"type", "linear"}, {"factor", 0}}}}, {"model.rope_scaling.factor"}},
      {{{"rope_parameters", {{"rope_type", "default"}, {"beta_fast", 32}}}}, {"rope_parameters.beta_fast = 32", "--ignore"}},
      {{{"rope_theta", "big"}}, {"rope_theta is \"big\"", "number"}},
      {{{"layer_types", {"full_attention", "chunked_attention"}}}, {"layer_types is", "sliding_attention"}},
      {{{"layer_types", {"full_attention", "sliding_attention"}}, {"sliding_window", 8}}, {"sliding_window is 8"}},
      {{{"rope_scaling", "linear"}}, {"rope_scaling is \"linear\"", "object"}},
      {{{"partial_rotary_factor", 0.5}}, {"partial_rotary_factor is 0.5"}},
      {{{"attention_bias", true}}, {"no tensor model.layers.0.self_attn.q_proj.bias [16]"}},
      {{{"head_dim", 8}}, {"q_proj.weight is [16,16], but [32,16]"}},
      {{{"head_dim", 0}}, {"head_dim is 0"}},
      {{{"num_attention_heads", 0}}, {"num_attention_heads is 0"}},
      {{{"num_attention_heads", 8}, {"head_dim", "(removed)"}}, {"k_proj.weight is [8,16], but [4,16]"}},
      {{{"num_key_value_heads", 3}}, {"config.json", "model.kv_heads = 3"}},
      {{{"intermediate_size", 23}}, {"gate_proj.weight is [24,16], but [23,16]"}},
      {{{"model_type", "mistral"}, {"sliding_window", 16}}, {"sliding_window is 16", "24 tokens", "--context 16"}},
      {{{"use_sliding_window", true}, {"sliding_window", 16}}, {"sliding_window is 16"}},
      {{{"tie_word_embeddings", "yes"}}, {"tie_word_embeddings is \"yes\"", "true or false"}},
      {{{"rms_norm_eps", 0}}, {"model.norm_epsilon"}},
  };
  for (const Case& one : cases) {
    const ChangedFolder folder("llama");
    folder.config(one.changes);
    expect_contains(folder.problem(), one.words);
  }
  const ChangedFolder qwen3("qwen3");
  qwen3.config({{"mlp_bias", true}});
  expect_contains(qwen3.problem(), {"mlp_bias is true", "qwen3 has no such biases"});
  // A window that is not written is the library's default, of 4,096; null is none.
  const ChangedFolder unwritten("mistral");
  unwritten.config({{"sliding_window", "(removed)"}, {"max_position_embeddings", 5000}});
  expect_contains(unwritten.problem(), {"sliding_window is missing", "5000 tokens", "--context 4096"});
  EXPECT_EQ(read_foreign_model(unwritten.path(), 4096).model.context, 4096);
  unwritten.config({{"sliding_window", nullptr}});
  EXPECT_EQ(read_foreign_model(unwritten.path(), 0).model.context, 5000);
  const ChangedFolder windowed("mistral");
  windowed.config({{"sliding_window", 16}});
  expect_contains(windowed.problem(17), {"sliding_window"});
  const TempFolder folder;
  EXPECT_EQ(import_to(windowed.path(), folder.file("run"), 16).foreign.model.context, 16);
}

TEST(Interchange, WeightsThatDoNotFitAreNamed) {
  const auto problem = [](const std::function<void(std::vector<NamedTensor>&)>& change) {
    const ChangedFolder folder("gpt2");
    folder.weights(change);
    return folder.problem();
  };
  expect_contains(problem([](auto& tensors) { tensors.pop_back(); }), {"has no tensor transformer."});
  std::vector<float> one(1);
  std::vector<int32_t> numbers(12);
  expect_contains(problem([&](auto& tensors) {
                    tensors.push_back({"extra", Tensor(one.data(), DType::kF32, {1})});
                  }),
                  {"model.safetensors", "tensor extra [1] is not part of the model"});
  expect_contains(problem([&](auto& tensors) {
                    for (NamedTensor& named : tensors)
                      if (named.name == "transformer.ln_f.bias")
                        named.tensor = Tensor(numbers.data(), DType::kI32, {12});
                  }),
                  {"transformer.ln_f.bias [12] is I32", "F16"});
}

TEST(Interchange, ABrokenFolderIsRefused) {
  expect_contains(message_of<UserError>([] { read_foreign_model("/nowhere", 0); }), {"/nowhere", "no such folder"});
  const auto problem = [](const std::string& name, const std::function<void(const fs::path&)>& change) {
    const ChangedFolder folder(name);
    change(folder.path());
    return folder.problem();
  };
  const auto write = [](const fs::path& path, const char* text) { write_file_atomic(path, text); };
  expect_contains(problem("gpt2", [](const fs::path& path) { fs::remove(path / "config.json"); }), {"config.json"});
  expect_contains(problem("gpt2", [&](const fs::path& path) { write(path / "config.json", "[]"); }),
                  {"no JSON object"});
  expect_contains(problem("gpt2", [](const fs::path& path) { fs::remove(path / "model.safetensors"); }),
                  {"neither model.safetensors nor"});
  expect_contains(
      problem("gpt2", [](const fs::path& path) { fs::rename(path / "model.safetensors", path / "pytorch_model.bin"); }),
      {"neither", "pytorch_model.bin could run code"});
  expect_contains(problem("gpt2", [](const fs::path& path) { fs::resize_file(path / "model.safetensors", 9999); }),
                  {"model.safetensors", "9999"});
  const char* index = "model.safetensors.index.json";
  expect_contains(problem("gpt2_first", [&](const fs::path& path) { write(path / index, "{}"); }), {"no weight_map"});
  expect_contains(problem("gpt2_first",
                          [&](const fs::path& path) {
                            write(path / index, R"({"weight_map": {"wte.weight": "../gpt2/model.safetensors"}})");
                          }),
                  {"wte.weight", "no file's name"});
  expect_contains(problem("gpt2_first",
                          [&](const fs::path& path) {
                            write(path / index, R"({"weight_map": {"ln_f.bias": "model-00001-of-00002.safetensors"}})");
                          }),
                  {"ln_f.bias", "but it is not"});
  expect_contains(
      problem("gpt2_first", [](const fs::path& path) { fs::remove(path / "model-00002-of-00002.safetensors"); }),
      {"model-00002-of-00002.safetensors", "No such file"});
}

TEST(Interchange, WhatIsThereStays) {
  const TempFolder folder;
  import_to(golden("gpt2"), folder.file("run"));
  const std::string state = read_file(folder.file("run") + "/config.json");
  expect_contains(message_of<UserError>([&] { import_to(golden("gpt2_untied"), folder.file("run")); }),
                  {"/run is there already"});
  expect_contains(message_of<UserError>([&] { export_to(folder.file("run"), folder.file("run")); }),
                  {"/run is there already"});
  EXPECT_EQ(read_file(folder.file("run") + "/config.json"), state);
  fs::create_directories(folder.file("empty"));
  EXPECT_NO_THROW(export_to(folder.file("run"), folder.file("empty")));
}

TEST(Interchange, AFullDiskLeavesNoFolder) {
  const TempFolder folder;
  import_to(golden("gpt2"), folder.file("run"));
  const FileSizeLimit limit(10000);  // the weights take 20 kB
  EXPECT_THROW(export_to(folder.file("run"), folder.file("out")), RunError);
  EXPECT_THROW(import_to(golden("gpt2"), folder.file("again")), RunError);
  for (const char* name : {"out", "out.tmp", "again", "again.tmp"}) EXPECT_FALSE(fs::exists(folder.file(name))) << name;
}

// ---- fields and tensors that nobody asked for -----------------------------------------------------------------------

TEST(Interchange, AFieldThatIsNotKnownIsRefusedByName) {
  const Json fields = {{"attn_logit_softcapping", 50.0}, {"logits_scaling", 8.0},       {"no_such_flag", false},
                       {"auto_map", {{"AutoModel", "x.Y"}}}, {"some_list", {1, 2, 3}}, {"pruned_heads", {{"0", {1}}}},
                       {"is_encoder_decoder", true}};
  for (const std::string name : {"gpt2", "llama", "qwen2", "opt", "gpt_neox"})
    for (const auto& [key, value] : fields.items()) {
      const ChangedFolder folder(name);
      folder.config({{key, value}});
      expect_contains(folder.problem(), {"config.json", key});
      folder.config({{key, nullptr}});
      const TempFolder out;
      EXPECT_NO_THROW(import_to(folder.path(), out.file("run"))) << name << " " << key;
    }
}

TEST(Interchange, FieldsThatDoNotMatterPass) {
  const ChangedFolder folder("llama");
  folder.config({{"_name_or_path", "x"}, {"attention_dropout", 0.5}, {"max_length", 20},     {"pretraining_tp", 2},
                 {"id2label", {{"0", "A"}}}, {"rope_scaling", nullptr}, {"sliding_window", 3}, {"use_sliding_window", false},
                 {"hidden_act", "swish"}, {"pruned_heads", Json::object()}, {"layer_types", {"full_attention"}}});
  const TempFolder out;
  import_to(folder.path(), out.file("run"));
  const Expected expected = expected_logits(golden("llama"));
  EXPECT_LT(parity::distance(logits_of(out.file("run"), expected.tokens), expected.logits), kLogitBound);
}

TEST(Interchange, IgnoredFieldsAreAsIfTheyWereNotThere) {
  const ChangedFolder folder("llama3");
  folder.config({{"logits_scaling", 8.0}, {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}, {"odd", 1}}}});
  const std::vector<std::string> ignore = {"logits_scaling", "rope_scaling.odd", "rope_parameters"};
  const ForeignModel foreign = read_foreign_model(folder.path(), 0, ignore);
  EXPECT_EQ(foreign.ignored.size(), 3u);
  EXPECT_EQ(foreign.ignored[0], "logits_scaling = 8.0");
  EXPECT_EQ(foreign.ignored[1], "rope_scaling.odd = 1");
  EXPECT_EQ(foreign.model.rope_scaling.type, "linear");
  EXPECT_EQ(foreign.model.rope_theta, 10000);
  EXPECT_TRUE(foreign.ignored_tensors.empty());
  EXPECT_EQ(read_foreign_model(golden("llama"), 0, {"nothing"}).ignored_tensors, std::vector<std::string>{"nothing"});
}

// Python's json writes them; see read_foreign_model.
TEST(Interchange, WordsThatAreNoJsonPassWhereNothingReadsThem) {
  const auto config_with = [](const std::string& field) {
    ChangedFolder folder("llama");
    const std::string file = (folder.path() / "config.json").string();
    std::string text = read_file(file);
    write_file_atomic(file, text.replace(text.find('{'), 1, "{" + field + ","));
    return message_of<UserError>([&] { read_foreign_model(folder.path(), 0); });
  };
  EXPECT_EQ(config_with(R"("diversity_penalty": Infinity, "prefix": "\ud83d")"), "");
  expect_contains(config_with(R"("some_limit": [0.0, Infinity])"), {"some_limit = [0.0,null]", "--ignore some_limit"});
  expect_contains(config_with(R"("rope_theta": NaN)"), {"rope_theta", "finite number"});
}

TEST(Interchange, AnAdapterBesideTheWeightsIsNotLeftOutInSilence) {
  const ChangedFolder folder("llama");
  write_file_atomic(folder.path() / "adapter_config.json", "{}");
  expect_contains(folder.problem(), {"adapter_config.json", "merge it", "--ignore adapter_config.json"});
  const ForeignModel foreign = read_foreign_model(folder.path(), 0, {"adapter_config.json"});
  const TempFolder out;
  EXPECT_NO_THROW(import_folder(folder.path(), foreign,
                                parse_experiment({{"data", "random"}, {"model", model_group(foreign.model)}}), out.file("run")));
}

// ---- names of tensors -----------------------------------------------------------------------------------------------

void rename(const ChangedFolder& folder, const std::function<std::string(const std::string&)>& name) {
  folder.weights([&](std::vector<NamedTensor>& tensors) {
    for (NamedTensor& named : tensors) named.name = name(named.name);
  });
}

TEST(Interchange, WrappersInNamesAreLeftOut) {
  const std::vector<std::string> prefixes = {"_orig_mod.",        "module.", "module._orig_mod.", "_orig_mod.module.",
                                             "module.module.",    "net.",    "base_model.model.", "_forward_module.lm.",
                                             "_orig_mod.net.inner."};
  for (const std::string name : {"gpt2", "gpt2_untied", "llama", "gpt_neox", "opt"})
    for (const std::string& prefix : prefixes) {
      const ChangedFolder folder(name);
      rename(folder, [&](const std::string& tensor) { return prefix + tensor; });
      const TempFolder out;
      import_to(folder.path(), out.file("run"));
      import_to(golden(name), out.file("plain"));
      EXPECT_EQ(weights_of(newest_weights(out.file("run"))), weights_of(newest_weights(out.file("plain")))) << name << prefix;
    }
  const ChangedFolder inside("llama");
  rename(inside, [](const std::string& tensor) {
    const size_t at = tensor.find("self_attn.");
    return at == tensor.npos ? tensor : std::string(tensor).insert(at, "_fsdp_wrapped_module._orig_mod.");
  });
  const TempFolder out;
  EXPECT_NO_THROW(import_to(inside.path(), out.file("run")));
}

TEST(Interchange, NamesOfAnotherModelAreShown) {
  const ChangedFolder folder("gpt2");
  rename(folder, [](const std::string& tensor) { return "x" + tensor.substr(1); });
  expect_contains(folder.problem(), {"no tensor", "it has x", "more"});
  const ChangedFolder both("gpt2");
  std::vector<float> zeros(12);
  both.weights([&](std::vector<NamedTensor>& tensors) {
    tensors.push_back({"module.transformer.ln_f.bias", Tensor(zeros.data(), DType::kF32, {12})});
  });
  expect_contains(both.problem(), {"transformer.ln_f.bias", "module.transformer.ln_f.bias", "both"});
}

// ---- a tied head ----------------------------------------------------------------------------------------------------

TEST(Interchange, ATiedWeightMayBeStoredUnderTheHeadsNameAlone) {
  const std::vector<std::pair<std::string, std::string>> folders = {{"gpt2", "transformer.wte.weight"},
                                                                    {"llama_biases", "model.embed_tokens.weight"},
                                                                    {"opt", "model.decoder.embed_tokens.weight"},
                                                                    {"gpt_neox_serial", "gpt_neox.embed_in.weight"}};
  for (const auto& [name, embedding] : folders)
    for (const char* head : {"lm_head.weight", "embed_out.weight"}) {
      if ((name == "gpt_neox_serial") != (head[0] == 'e')) continue;
      const ChangedFolder folder(name);
      rename(folder, [&](const std::string& tensor) { return tensor == embedding ? head : tensor; });
      const TempFolder out;
      import_to(folder.path(), out.file("run"));
      const Expected expected = expected_logits(golden(name));
      EXPECT_LT(parity::distance(logits_of(out.file("run"), expected.tokens), expected.logits), kLogitBound) << name;
    }
}

TEST(Interchange, AStoredHeadThatIsNotTheEmbeddingIsNeverDroppedInSilence) {
  for (const bool said : {false, true}) {
    const ChangedFolder folder("gpt2_untied");
    folder.config({{"tie_word_embeddings", said ? Json(true) : Json("(removed)")}});
    expect_contains(folder.problem(), {"lm_head.weight", "not equal to transformer.wte.weight", "tie_word_embeddings",
                                       "write false", "--ignore lm_head.weight"});
    const TempFolder out;
    const ForeignModel foreign = read_foreign_model(folder.path(), 0, {"lm_head.weight"});
    const Experiment experiment = parse_experiment({{"data", "random"}, {"model", model_group(foreign.model)}});
    EXPECT_EQ(import_folder(folder.path(), foreign, experiment, out.file("run")).ignored,
              std::vector<std::string>{"lm_head.weight"});
  }
  const ChangedFolder equal("gpt2");
  std::vector<float> head = weights_of(equal.path() / "model.safetensors").at("transformer.wte.weight");
  equal.weights([&](std::vector<NamedTensor>& tensors) {
    tensors.push_back({"lm_head.weight", Tensor(head.data(), DType::kF32, {31, 12})});
  });
  const TempFolder out;
  EXPECT_EQ(import_to(equal.path(), out.file("run")).result.ignored, std::vector<std::string>{"lm_head.weight"});
}

TEST(Interchange, WhatIsToBeIgnoredMustBeThere) {
  const auto problem = [](const std::string& name) {
    const ForeignModel foreign = read_foreign_model(golden("gpt2"), 0, {name});
    const TempFolder out;
    const Experiment experiment = parse_experiment({{"data", "random"}, {"model", model_group(foreign.model)}});
    return message_of<UserError>([&] { import_folder(golden("gpt2"), foreign, experiment, out.file("run")); });
  };
  expect_contains(problem("no_such"), {"--ignore no_such", "no such field", "no such tensor"});
  expect_contains(problem("transformer.wte.weight"), {"--ignore transformer.wte.weight", "needs this tensor"});
}

// ---- weights that are not finite -------------------------------------------------------------------------------------

TEST(Interchange, WeightsThatAreNotFiniteAreCountedAndNamed) {
  const ChangedFolder folder("gpt2");
  folder.weights([](std::vector<NamedTensor>& tensors) {
    for (NamedTensor& named : tensors)
      if (named.name == "transformer.h.1.mlp.c_fc.weight") {
        named.tensor.as<float>()[3] = std::numeric_limits<float>::quiet_NaN();
        named.tensor.as<float>()[40] = -std::numeric_limits<float>::infinity();
      }
  });
  const TempFolder out;
  const ImportResult result = import_to(folder.path(), out.file("run")).result;
  EXPECT_EQ(result.finite.sentence(), "2 of 4452 weights are NaN or infinite, the first of them in transformer.h.1.mlp.c_fc.weight");
  EXPECT_TRUE(import_to(golden("gpt2"), out.file("other")).result.finite.all());
  expect_contains(message_of<RunError>([&] { logits_of(out.file("run"), {1, 2}); }),
                  {"step_00000000", "2 of 4452 weights", "blocks.1.mlp.up.weight"});
  expect_contains(message_of<RunError>([&] { export_to(out.file("run"), out.file("out")); }),
                  {"1.mlp.up.weight", "not exported"});
  EXPECT_FALSE(fs::exists(out.file("out")));
}

// ---- OPT and GPT-NeoX ------------------------------------------------------------------------------------------------

TEST(Interchange, WhatSluiceCannotFollowOfOptAndNeoxIsNamed) {
  struct Case {
    const char* folder;
    Json changes;
    std::vector<std::string> words;
  };
  const std::vector<Case> cases = {
      {"opt", {{"do_layer_norm_before", false}}, {"do_layer_norm_before is false"}},
      {"opt", {{"word_embed_proj_dim", 6}}, {"word_embed_proj_dim is 6", "12"}},
      {"opt", {{"_remove_final_layer_norm", true}}, {"_remove_final_layer_norm is true"}},
      {"opt", {{"max_position_embeddings", 25}}, {"embed_positions.weight is [26,12], but [27,12]"}},
      {"opt", {{"enable_bias", false}}, {"bias", "not part of the model"}},
      {"gpt_neox", {{"rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.07}}}}, {"rotary_pct", "16"}},
      {"gpt_neox", {{"hidden_act", "mish"}}, {"hidden_act is \"mish\""}},
      {"gpt_neox", {{"num_attention_heads", 3}}, {"heads = 3"}},
  };
  for (const Case& one : cases) {
    const ChangedFolder folder(one.folder);
    folder.config(one.changes);
    expect_contains(folder.problem(), one.words);
  }
  // Version 4 of the library had other names for the same.
  const ChangedFolder older("gpt_neox");
  older.config({{"rope_parameters", "(removed)"}, {"rotary_pct", 0.25}, {"rotary_emb_base", 10000}, {"rope_scaling", nullptr}});
  const TempFolder out;
  import_to(older.path(), out.file("run"));
  const Expected expected = expected_logits(golden("gpt_neox"));
  EXPECT_LT(parity::distance(logits_of(out.file("run"), expected.tokens), expected.logits), kLogitBound);
}

TEST(Interchange, AShorterContextOfOptTakesItsFirstPositions) {
  const TempFolder folder;
  import_to(golden("opt"), folder.file("run"), 10);
  Expected expected = expected_logits(golden("opt"));
  const size_t vocab = expected.logits.size() / expected.tokens.size();
  expected.tokens.resize(10);
  expected.logits.resize(10 * vocab);
  EXPECT_LT(parity::distance(logits_of(folder.file("run"), expected.tokens), expected.logits), kLogitBound);
}

// ---- training on ----------------------------------------------------------------------------------------------------

TEST(Interchange, TrainingGoesOnWithAnOptimizerThatBegins) {
  const TinyRuns runs;
  import_to(golden("gpt2_untied"), runs.path("imported"));
  Experiment experiment = stored_experiment(verify_checkpoint(runs.checkpoint("imported", 0)));
  experiment.train.steps = 2;
  experiment.train.batch = experiment.train.micro_batch = 2;
  experiment.log.probe_every = 0;
  const ResumeOption option = ResumeOption::parse(runs.path("imported"));
  const RunFolder folder(runs.path("run"), experiment.dump(), option);
  HookedBackend backend;
  Trainer trainer(backend, experiment, TrainingData::open(experiment), &folder);
  EXPECT_EQ(trainer.run(option), 0);
  EXPECT_EQ(runs.weights("run", 0), read_file(runs.checkpoint("imported", 0) + "/model.safetensors"));
  EXPECT_NE(runs.weights("run", 2), runs.weights("run", 0));
  EXPECT_EQ(runs.trainer_state("run", 2).at("updates"), 2);
}

}  // namespace
}  // namespace sluice
