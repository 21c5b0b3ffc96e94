// Folders of the transformers library, in both directions. What the library computes for tests/golden/transformers/*
// was written down by make.py there; scripts/check_transformers.py runs the library itself.
#include <algorithm>
#include <optional>

#include "interchange/interchange_folders.h"
#include "model/config/score.h"
#include "train/failures.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

const std::vector<std::string> kFolders = {
    "gpt2",    "gpt2_first", "gpt2_untied", "llama",           "llama_biases", "llama3",   "llama_linear",
    "mistral", "qwen2",      "qwen3",       "qwen3_head_size", "opt",          "gpt_neox", "gpt_neox_serial"};

// Families that are read, and written as another.
bool changes_names(const std::string& name) {
  return name == "gpt2_first" || name == "opt" || name.starts_with("gpt_neox");
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
      if (key == "torch_dtype" || key == "architectures") continue;
      if (name == "mistral" && key == "model_type") continue;        // without a window it is a LLaMA
      if (!before.contains(key) || before[key].is_null()) continue;  // left to the library's default
      EXPECT_EQ(nlohmann::json(value), nlohmann::json(before[key])) << name << ": " << key;  // in any order
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
  options.trained = {.first = 3, .mask = 5};
  export_to(run, out, options);
  const TrainedTokens read = read_foreign_model(out, 0).trained, none = read_foreign_model(golden("gpt2"), 0).trained;
  EXPECT_EQ(read.first, 3);
  EXPECT_EQ(read.mask, 5);
  EXPECT_EQ(none.first, -1);
  EXPECT_EQ(none.mask, -1);
  Json config = read_json_file((out / "config.json").string());
  config["sluice_first_token"] = config["vocab_size"];
  EXPECT_NE(message_of<UserError>([&] {
              read_foreign_config(config, "config.json", 0);
            }).find("which is no token of the model"),
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
  out.push_back({"pattern", {{"attention", {"vga", {{"type", "sink_logit"}, {"repeat", 2}}}}, {"layers", 4}}});
  out.push_back(
      {"part_rope",
       {{"position", "rope"}, {"rotary_features", 4}, {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}});
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
  if (value) backend->run(Fill{transformer.params().all_values(), *value});
  std::vector<NamedTensor> tensors;
  for (const ParamSpec& spec : transformer.params().specs())
    tensors.push_back({spec.name, transformer.params().value(transformer.params().find(spec.name))});
  for (size_t i = 0; i < transformer.averages().list().size(); ++i)
    tensors.push_back({transformer.averages().list()[i].name, transformer.averages().value({int(i)})});
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

// With the Python of the score functions in the place of the line that names it: first what they have in common, then
// each.
TEST(Interchange, TheModelFileIsExportedAsItIs) {
  const std::filesystem::path scores = source_folder() / "src/kernels/formulas/scores";
  std::string joined = read_file(scores / "score.py");
  std::vector<std::string> names = score_names();
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) joined += "\n\n" + read_file(scores / (name + ".py"));
  std::string expected = read_file(source_folder() / "src/interchange/modeling_sluice.py");
  const std::string place = "# {kernels/formulas/scores/*.py}\n";
  ASSERT_NE(expected.find(place), std::string::npos);
  expected.replace(expected.find(place), place.size(), joined);

  const TempFolder folder;
  write_run(folder.file("run"), {"vga", {{"attention", "vga"}}});
  export_to(folder.file("run"), folder.file("out"));
  EXPECT_EQ(read_file(folder.file("out") + "/modeling_sluice.py"), expected);
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
      {{{"rope_parameters", {{"rope_type", "default"}, {"beta_fast", 32}}}},
       {"rope_parameters.beta_fast = 32", "--ignore"}},
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
      {{{"hidden_size", uint64_t{1} << 63}}, {"hidden_size is 9223372036854775808", "2^31"}},
      {{{"num_attention_heads", int64_t{1} << 40}}, {"num_attention_heads is 1099511627776", "2^31"}},
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
  for (const char* name : {"out", "again"}) EXPECT_FALSE(fs::exists(folder.file(name))) << name;
  for (const auto& entry : fs::directory_iterator(folder.file("")))
    EXPECT_FALSE(entry.path().filename().string().starts_with(".")) << entry.path();
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
