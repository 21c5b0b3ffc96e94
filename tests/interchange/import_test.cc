// What an import refuses, tells and passes over: fields of config.json, names of tensors, tied heads, weights that are
// not finite, and the families that are only read. What models compute is in interchange_test.cc.
#include <cmath>
#include <limits>

#include "interchange/interchange_folders.h"

namespace sluice {
namespace {

// ---- fields and tensors that nobody asked for -----------------------------------------------------------------------

TEST(Import, AFieldThatIsNotKnownIsRefusedByName) {
  const Json fields = {{"attn_logit_softcapping", 50.0},     {"logits_scaling", 8.0},  {"no_such_flag", false},
                       {"auto_map", {{"AutoModel", "x.Y"}}}, {"some_list", {1, 2, 3}}, {"pruned_heads", {{"0", {1}}}},
                       {"is_encoder_decoder", true}};
  for (const std::string name : {"gpt2", "llama", "qwen2", "opt", "gpt_neox"})
    for (const auto& [key, value] : fields.items()) {
      const ChangedFolder folder(name);
      folder.config({{key, value}});
      expect_contains(message_of<UserError>([&] { read_foreign_model(folder.path(), 0); }), {"config.json", key});
      folder.config({{key, nullptr}});
      EXPECT_NO_THROW(read_foreign_model(folder.path(), 0)) << name << " " << key;
    }
}

TEST(Import, FieldsThatDoNotMatterPass) {
  const ChangedFolder folder("llama");
  folder.config({{"_name_or_path", "x"},
                 {"attention_dropout", 0.5},
                 {"max_length", 20},
                 {"pretraining_tp", 2},
                 {"id2label", {{"0", "A"}}},
                 {"rope_scaling", nullptr},
                 {"sliding_window", 3},
                 {"use_sliding_window", false},
                 {"hidden_act", "swish"},
                 {"pruned_heads", Json::object()},
                 {"layer_types", {"full_attention"}}});
  const TempFolder out;
  import_to(folder.path(), out.file("run"));
  const Expected expected = expected_logits(golden("llama"));
  EXPECT_LT(parity::distance(logits_of(out.file("run"), expected.tokens), expected.logits), kLogitBound);
}

// The config.json of models as they are published, cut to what is not the same everywhere.
TEST(Import, PublishedConfigsAreUnderstood) {
  const auto read = [](const char* text) { return read_foreign_config(Json::parse(text), "config.json", 2048).model; };
  const ModelConfig pythia = read(R"({"architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "hidden_act": "gelu",
      "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
      "max_position_embeddings": 2048, "model_type": "gpt_neox", "num_attention_heads": 12, "num_hidden_layers": 12,
      "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": false, "torch_dtype": "float16",
      "transformers_version": "4.24.0", "use_cache": true, "use_parallel_residual": true, "vocab_size": 50304})");
  EXPECT_EQ(pythia.rotary_features, 16);
  EXPECT_TRUE(pythia.parallel_residual);
  EXPECT_EQ(pythia.mlp, MlpKind::kGeluErf);
  const ModelConfig qwen3 =
      read(R"({"attention_bias": false, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
      "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
      "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
      "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
      "use_sliding_window": false, "vocab_size": 151936})");
  EXPECT_EQ(qwen3.head_size(), 128);
  const ModelConfig llama = read(R"({"attention_bias": false, "eos_token_id": [128001, 128008], "head_dim": 64,
      "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 131072,
      "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16,
      "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
      "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                       "original_max_position_embeddings": 8192, "rope_type": "llama3"},
      "tie_word_embeddings": true, "vocab_size": 128256})");
  EXPECT_EQ(llama.rope_scaling.type, RopeScaling::kLlama3);
  EXPECT_EQ(llama.rope_scaling.factor, 32);
  const ModelConfig qwen25 = read(R"({"hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
      "max_position_embeddings": 32768, "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14,
      "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
      "sliding_window": 32768, "tie_word_embeddings": true, "use_mrope": false, "use_sliding_window": false,
      "vocab_size": 151936})");
  EXPECT_TRUE(qwen25.qkv_bias());
  EXPECT_FALSE(qwen25.attention_output_bias());
  const ModelConfig opt =
      read(R"({"_name_or_path": "opt-125m", "activation_dropout": 0.0, "activation_function": "relu",
      "do_layer_norm_before": true, "dropout": 0.1, "ffn_dim": 3072, "hidden_size": 768, "init_std": 0.02, "layerdrop": 0.0,
      "max_position_embeddings": 2048, "model_type": "opt", "num_attention_heads": 12, "num_hidden_layers": 12,
      "pad_token_id": 1, "prefix": "</s>", "vocab_size": 50272, "word_embed_proj_dim": 768})");
  EXPECT_EQ(opt.mlp, MlpKind::kRelu);
  EXPECT_TRUE(opt.tied_head);
}

TEST(Import, DropoutIsWhatTheFileSays) {
  const auto dropout = [](const std::string& name, const Json& changes) {
    const ChangedFolder folder(name);
    folder.config(changes);
    const DropoutConfig read = read_foreign_model(folder.path(), 0).model.dropout;
    return std::vector<double>{read.hidden, read.attention, read.embedding};
  };
  using Three = std::vector<double>;
  EXPECT_EQ(dropout("gpt2", {{"resid_pdrop", 0.1}, {"attn_pdrop", 0.2}, {"embd_pdrop", 0.3}}), (Three{0.1, 0.2, 0.3}));
  EXPECT_EQ(dropout("opt", {{"dropout", 0.1}, {"attention_dropout", 0.2}}), (Three{0.1, 0.2, 0}));
  EXPECT_EQ(dropout("gpt_neox", {{"hidden_dropout", 0.1}, {"attention_dropout", 0.2}}), (Three{0.1, 0.2, 0.1}));
  EXPECT_EQ(dropout("llama", {{"attention_dropout", 0.2}}), (Three{0, 0.2, 0}));
  EXPECT_EQ(dropout("llama", {{"attention_dropout", nullptr}}), (Three{0, 0, 0}));
  const ChangedFolder folder("gpt2");
  folder.config({{"resid_pdrop", 1.5}});
  expect_contains(message_of<UserError>([&] { read_foreign_model(folder.path(), 0); }), {"config.json", "dropout"});
}

TEST(Export, SaysWhatDropoutDoesNotHoldThere) {
  const auto left_out = [](const ModelConfig& of, double hidden, double attention, double embedding) {
    ModelConfig model = of;
    model.dropout.hidden = hidden, model.dropout.attention = attention, model.dropout.embedding = embedding;
    const Architecture architecture = native_architecture(model);
    return dropout_left_out(architecture, model, exported_config(architecture, model, "float32", nullptr, {}));
  };
  const ModelConfig gpt2 = read_foreign_model(golden("gpt2"), 0).model,
                    llama = read_foreign_model(golden("llama"), 0).model;
  EXPECT_EQ(left_out(gpt2, 0.1, 0.2, 0.3), "");
  EXPECT_EQ(left_out(llama, 0, 0.2, 0), "");
  EXPECT_EQ(left_out(llama, 0.1, 0.2, 0.3),
            "LlamaForCausalLM has no field for model.dropout.hidden = 0.1 (it takes 0), model.dropout.embedding = 0.3 "
            "(it takes "
            "0): training that goes on there differs");
  const ModelConfig bert = parity::model_config({{"vocab_size", 9},
                                                 {"context", 4},
                                                 {"layers", 1},
                                                 {"heads", 1},
                                                 {"width", 8},
                                                 {"causal", false},
                                                 {"norm", "layernorm"},
                                                 {"mlp", "gelu_erf"},
                                                 {"position", "learned"},
                                                 {"bias", true},
                                                 {"tied_head", true},
                                                 {"residual", "post_norm"},
                                                 {"segment_embedding", true},
                                                 {"head_transform", true},
                                                 {"head_bias", true},
                                                 {"init", "bert"}});
  ASSERT_EQ(native_architecture(bert), Architecture::kBert);
  EXPECT_EQ(left_out(bert, 0.1, 0.2, 0.1), "");
  expect_contains(left_out(bert, 0.1, 0.2, 0), {"BertForMaskedLM", "model.dropout.embedding = 0 (it takes 0.1)"});
  ModelConfig registers = gpt2;
  registers.registers = 1;
  EXPECT_EQ(left_out(registers, 0, 0, 0), "");
  EXPECT_EQ(left_out(registers, 0, 0.2, 0),
            "modeling_sluice.py drops nothing: model.dropout.attention = 0.2 is kept for sluice import alone");
}

TEST(Import, IgnoredFieldsAreAsIfTheyWereNotThere) {
  const ChangedFolder folder("llama3");
  folder.config({{"logits_scaling", 8.0}, {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}, {"odd", 1}}}});
  const std::vector<std::string> ignore = {"logits_scaling", "rope_scaling.odd", "rope_parameters"};
  const ForeignModel foreign = read_foreign_model(folder.path(), 0, ignore);
  EXPECT_EQ(foreign.ignored.size(), 3u);
  EXPECT_EQ(foreign.ignored[0], "logits_scaling = 8.0");
  EXPECT_EQ(foreign.ignored[1], "rope_scaling.odd = 1");
  EXPECT_EQ(foreign.model.rope_scaling.type, RopeScaling::kLinear);
  EXPECT_EQ(foreign.model.rope_theta, 10000);
  EXPECT_TRUE(foreign.ignored_tensors.empty());
  EXPECT_EQ(read_foreign_model(golden("llama"), 0, {"nothing"}).ignored_tensors, std::vector<std::string>{"nothing"});
}

// Python's json writes them; see read_foreign_model.
TEST(Import, WordsThatAreNoJsonPassWhereNothingReadsThem) {
  const auto config_with = [](const std::string& field) {
    ChangedFolder folder("llama");
    const std::string file = (folder.path() / "config.json").string();
    std::string text = read_file(file);
    write_file_atomic(file, text.replace(text.find('{'), 1, "{" + field + ","));
    return message_of<UserError>([&] { read_foreign_model(folder.path(), 0); });
  };
  expect_contains(config_with(R"("diversity_penalty": Infinity, "prefix": "\ud83d")"), {"nothing was thrown"});
  expect_contains(config_with(R"("some_limit": [0.0, Infinity])"), {"some_limit = [0.0,null]", "--ignore some_limit"});
  expect_contains(config_with(R"("rope_theta": NaN)"), {"rope_theta", "finite number"});
}

TEST(Import, AnAdapterBesideTheWeightsIsNotLeftOutInSilence) {
  const ChangedFolder folder("llama");
  write_file_atomic(folder.path() / "adapter_config.json", "{}");
  expect_contains(folder.problem(), {"adapter_config.json", "merge it", "--ignore adapter_config.json"});
  const ForeignModel foreign = read_foreign_model(folder.path(), 0, {"adapter_config.json"});
  const TempFolder out;
  EXPECT_NO_THROW(import_folder(folder.path(), foreign,
                                parse_experiment({{"data", "random"}, {"model", model_group(foreign.model)}}),
                                out.file("run")));
}

// ---- names of tensors -----------------------------------------------------------------------------------------------

TEST(Import, WrappersInNamesAreLeftOut) {
  const std::vector<std::string> prefixes = {
      "_orig_mod.", "module.",           "module._orig_mod.",   "_orig_mod.module.",   "module.module.",
      "net.",       "base_model.model.", "_forward_module.lm.", "_orig_mod.net.inner."};
  const auto check = [](const std::string& name, const std::string& prefix) {
    const ChangedFolder folder(name);
    rename_tensors(folder, [&](const std::string& tensor) { return prefix + tensor; });
    const TempFolder out;
    expect_contains(import_to(folder.path(), out.file("run")).result.unwrapped, {prefix, " is read as "});
    EXPECT_EQ(import_to(golden(name), out.file("plain")).result.unwrapped, "");
    EXPECT_EQ(weights_of(newest_weights(out.file("run"))), weights_of(newest_weights(out.file("plain"))))
        << name << prefix;
  };
  for (const std::string& prefix : prefixes) check("llama", prefix);
  for (const char* name : {"gpt2", "gpt2_untied", "gpt_neox", "opt"}) check(name, "module._orig_mod.net.");
  const ChangedFolder inside("llama");
  rename_tensors(inside, [](const std::string& tensor) {
    const size_t at = tensor.find("self_attn.");
    return at == tensor.npos ? tensor : std::string(tensor).insert(at, "_fsdp_wrapped_module._orig_mod.");
  });
  const TempFolder out;
  EXPECT_NO_THROW(import_to(inside.path(), out.file("run")));
}

TEST(Import, NamesOfAnotherModelAreShown) {
  const ChangedFolder folder("gpt2");
  rename_tensors(folder, [](const std::string& tensor) { return tensor + "_x"; });
  expect_contains(folder.problem(), {"no tensor", "it has transformer.h.0", "_x", "more"});
  const ChangedFolder both("gpt2");
  std::vector<float> zeros(12);
  both.weights([&](std::vector<NamedTensor>& tensors) {
    tensors.push_back({"module.transformer.ln_f.bias", Tensor(zeros.data(), DType::kF32, {12})});
  });
  expect_contains(both.problem(), {"transformer.ln_f.bias", "module.transformer.ln_f.bias", "both"});
}

// ---- a tied head ----------------------------------------------------------------------------------------------------

TEST(Import, ATiedWeightMayBeStoredUnderTheHeadsNameAlone) {
  const std::vector<std::pair<std::string, std::string>> folders = {{"gpt2", "transformer.wte.weight"},
                                                                    {"llama_biases", "model.embed_tokens.weight"},
                                                                    {"opt", "model.decoder.embed_tokens.weight"},
                                                                    {"gpt_neox_serial", "gpt_neox.embed_in.weight"}};
  for (const auto& [name, embedding] : folders)
    for (const char* head : {"lm_head.weight", "embed_out.weight"}) {
      if ((name == "gpt_neox_serial") != (head[0] == 'e')) continue;
      const ChangedFolder folder(name);
      rename_tensors(folder, [&](const std::string& tensor) { return tensor == embedding ? head : tensor; });
      const TempFolder out;
      import_to(folder.path(), out.file("run"));
      const Expected expected = expected_logits(golden(name));
      EXPECT_LT(parity::distance(logits_of(out.file("run"), expected.tokens), expected.logits), kLogitBound) << name;
    }
}

TEST(Import, AStoredHeadThatIsNotTheEmbeddingIsNeverDroppedInSilence) {
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

TEST(Import, WhatIsToBeIgnoredMustBeThere) {
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

TEST(Import, WeightsThatAreNotFiniteAreCountedAndNamed) {
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
  EXPECT_EQ(result.finite.sentence(),
            "2 of 4452 weights are NaN or infinite, the first of them in transformer.h.1.mlp.c_fc.weight");
  EXPECT_TRUE(import_to(golden("gpt2"), out.file("other")).result.finite.all());
  expect_contains(message_of<RunError>([&] {
                    logits_of(out.file("run"), {1, 2});
                  }),
                  {"step_00000000", "2 of 4452 weights", "blocks.1.mlp.up.weight"});
  expect_contains(message_of<RunError>([&] { export_to(out.file("run"), out.file("out")); }),
                  {"1.mlp.up.weight", "not exported"});
  EXPECT_FALSE(fs::exists(out.file("out")));
}

// ---- OPT and GPT-NeoX ------------------------------------------------------------------------------------------------

TEST(Import, WhatSluiceCannotFollowOfOptAndNeoxIsNamed) {
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
      {"gpt_neox",
       {{"rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.07}}}},
       {"rotary_pct", "16"}},
      {"gpt_neox", {{"rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 1e300}}}}, {"rotary_pct"}},
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
  older.config(
      {{"rope_parameters", "(removed)"}, {"rotary_pct", 0.25}, {"rotary_emb_base", 10000}, {"rope_scaling", nullptr}});
  const TempFolder out;
  import_to(older.path(), out.file("run"));
  const Expected expected = expected_logits(golden("gpt_neox"));
  EXPECT_LT(parity::distance(logits_of(out.file("run"), expected.tokens), expected.logits), kLogitBound);
}

TEST(Import, AShorterContextOfOptTakesItsFirstPositions) {
  const TempFolder folder;
  import_to(golden("opt"), folder.file("run"), 10);
  Expected expected = expected_logits(golden("opt"));
  const size_t vocab = expected.logits.size() / expected.tokens.size();
  expected.tokens.resize(10);
  expected.logits.resize(10 * vocab);
  EXPECT_LT(parity::distance(logits_of(folder.file("run"), expected.tokens), expected.logits), kLogitBound);
}

}  // namespace
}  // namespace sluice
