// See foreign_config.h.
#include "interchange/foreign_config.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/config/json_text.h"
#include "base/error.h"
#include "experiment/experiment.h"
#include "interchange/config_reader.h"
#include "interchange/foreign_bert.h"
#include "interchange/foreign_families.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

// The names of transformers for model.mlp.
constexpr std::array<std::pair<const char*, const char*>, 4> kActivations = {
    {{"gelu", "gelu_new"}, {"gelu_erf", "gelu"}, {"relu", "relu"}, {"relu_squared", "relu2"}}};

std::string activation_name(const std::string& mlp) {
  for (const auto& [ours, theirs] : kActivations)
    if (mlp == ours) return theirs;
  return "";
}

// ---- writing --------------------------------------------------------------------------------------------------------

Json gpt2_config(const ModelConfig& model) {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"vocab_size", model.vocab_size},
          {"n_positions", model.context},
          {"n_embd", model.width},
          {"n_layer", model.layers},
          {"n_head", model.heads},
          {"n_inner", model.mlp_width},
          {"activation_function", activation_name(choice_name(model.mlp))},
          {"layer_norm_epsilon", model.norm_epsilon},
          {"initializer_range", model.init_std},
          {"resid_pdrop", model.dropout.hidden},
          {"embd_pdrop", model.dropout.embedding},
          {"attn_pdrop", model.dropout.attention},
          {"tie_word_embeddings", model.tied_head}};
}

Json rope_parameters(const ModelConfig& model) {
  const RopeScalingConfig& scaling = model.rope_scaling;
  Json out = {{"rope_theta", model.rope_theta},
              {"rope_type", scaling.type == RopeScaling::kNone ? "default" : choice_name(scaling.type)}};
  if (scaling.type != RopeScaling::kNone) out["factor"] = scaling.factor;
  if (scaling.type != RopeScaling::kLlama3) return out;
  out["low_freq_factor"] = scaling.low_freq_factor;
  out["high_freq_factor"] = scaling.high_freq_factor;
  out["original_max_position_embeddings"] = scaling.original_context;
  return out;
}

// rope_theta is and rope_scaling are where version 4 of the library looks, and rope_parameters is where version 5 does.
Json llama_config(Architecture architecture, const ModelConfig& model) {
  const char* kind = architecture == Architecture::kQwen3   ? "Qwen3ForCausalLM"
                     : architecture == Architecture::kQwen2 ? "Qwen2ForCausalLM"
                                                            : "LlamaForCausalLM";
  Json config = {{"architectures", {kind}},
                 {"model_type", name_of(architecture)},
                 {"vocab_size", model.vocab_size},
                 {"max_position_embeddings", model.context},
                 {"hidden_size", model.width},
                 {"intermediate_size", model.mlp_width},
                 {"num_hidden_layers", model.layers},
                 {"num_attention_heads", model.heads},
                 {"num_key_value_heads", model.kv_heads},
                 {"head_dim", model.head_size()},
                 {"hidden_act", "silu"},
                 {"rms_norm_eps", model.norm_epsilon},
                 {"rope_theta", model.rope_theta},
                 {"rope_parameters", rope_parameters(model)},
                 {"initializer_range", model.init_std},
                 {"attention_dropout", model.dropout.attention},
                 {"tie_word_embeddings", model.tied_head}};
  if (model.rope_scaling.type != RopeScaling::kNone) config["rope_scaling"] = config["rope_parameters"];
  if (architecture != Architecture::kQwen2) config["attention_bias"] = model.qkv_bias();
  if (architecture == Architecture::kLlama) config["mlp_bias"] = model.bias;
  return config;
}

// What the Python file reads is sluice_model; the sizes beside it are for programs that only look.
Json sluice_config(const ModelConfig& model) {
  const std::string kind = model.causal ? "CausalLM" : "MaskedLM";
  return {{"architectures", {"SluiceFor" + kind}},
          {"model_type", "sluice"},
          {"auto_map",
           {{"AutoConfig", "modeling_sluice.SluiceConfig"},
            {"AutoModel", "modeling_sluice.SluiceModel"},
            {library_class(model), "modeling_sluice.SluiceFor" + kind}}},
          {"sluice_model", model_group(model)},
          {"vocab_size", model.vocab_size},
          {"max_position_embeddings", model.context},
          {"hidden_size", model.width},
          {"num_hidden_layers", model.layers},
          {"num_attention_heads", model.heads},
          {"num_key_value_heads", model.kv_heads},
          {"tie_word_embeddings", model.tied_head}};
}

// ---- reading --------------------------------------------------------------------------------------------------------

// Takes the field `name` out of the config, "a.b" for field b of the object a. Returns "name = value", or "" where it
// is not.
std::string take_out(Json& config, const std::string& name) {
  const auto found = config.find(name);
  if (found != config.end()) {
    std::string text = fmt::format("{} = {}", name, json_excerpt(*found));
    config.erase(found);
    return text;
  }
  const size_t dot = name.find('.');
  if (dot == name.npos || !config.contains(name.substr(0, dot)) || !config[name.substr(0, dot)].is_object()) return "";
  const std::string text = take_out(config[name.substr(0, dot)], name.substr(dot + 1));
  return text.empty() ? "" : name.substr(0, dot + 1) + text;
}

// model.dropout as the file has it: fields that are not there count as 0. OPT has none at its embeddings, LLaMA and its
// like none but that of attention weights. BERT's at the embedding stands behind its norm, here before it.
Json read_dropout(Architecture architecture, const Json& config) {
  const bool gpt2 = architecture == Architecture::kGpt2, neox = architecture == Architecture::kGptNeoX;
  const bool bert = architecture == Architecture::kBert;
  const char* hidden = gpt2 ? "resid_pdrop" : neox ? "hidden_dropout" : bert ? "hidden_dropout_prob" : "dropout";
  Json out = Json::object();
  const auto take = [&](const char* ours, const char* theirs) {
    if (config.contains(theirs) && config[theirs].is_number()) out[ours] = config[theirs];
  };
  if (gpt2 || neox || bert || architecture == Architecture::kOpt) take("hidden", hidden);
  take("attention", gpt2 ? "attn_pdrop" : bert ? "attention_probs_dropout_prob" : "attention_dropout");
  if (gpt2 || neox || bert) take("embedding", gpt2 ? "embd_pdrop" : hidden);
  return out;
}

ModelConfig parse_model(const Json& json, const std::string& file) {
  ModelConfig model;
  Fields fields;
  model.describe(fields);
  try {
    fields.parse(json, "model");
    model.resolve();
  } catch (const UserError& error) {
    throw UserError("{} describes a model that Sluice cannot have: {}", file, error.what());
  }
  return model;
}

}  // namespace

const char* name_of(Architecture architecture) {
  switch (architecture) {
    case Architecture::kGpt2: return "gpt2";
    case Architecture::kLlama: return "llama";
    case Architecture::kQwen2: return "qwen2";
    case Architecture::kQwen3: return "qwen3";
    case Architecture::kOpt: return "opt";
    case Architecture::kGptNeoX: return "gpt_neox";
    case Architecture::kBert: return "bert";
    case Architecture::kSluice: return "sluice";
  }
  return "?";
}

Architecture native_architecture(const ModelConfig& model) {
  if (is_bert(model)) return Architecture::kBert;
  if (!model.attention.is_plain() || !model.residual.is_plain() || model.parallel_residual || model.norm_gate > 0 ||
      model.value_head_size() != model.head_size() || model.registers > 0 || !model.causal || model.segment_embedding ||
      model.head_transform || model.head_bias)
    return Architecture::kSluice;
  const bool queries = model.qkv_bias(), output = model.attention_output_bias();
  if (model.norm == Norm::kLayerNorm && model.position == Position::kLearned && model.bias && queries && output &&
      !model.qk_norm && model.kv_heads == model.heads && model.heads * model.head_size() == model.width &&
      !activation_name(choice_name(model.mlp)).empty())
    return Architecture::kGpt2;
  if (model.norm != Norm::kRmsNorm || model.position != Position::kRope || model.mlp != MlpKind::kSwiglu ||
      model.turned_features() != model.head_size())
    return Architecture::kSluice;
  if (model.qk_norm) return !model.bias && queries == output ? Architecture::kQwen3 : Architecture::kSluice;
  if (queries == output) return Architecture::kLlama;
  // Qwen2's class knows no size of a head but width / heads.
  return !model.bias && model.heads * model.head_size() == model.width ? Architecture::kQwen2 : Architecture::kSluice;
}

const char* library_class(const ModelConfig& model) {
  return model.causal ? "AutoModelForCausalLM" : "AutoModelForMaskedLM";
}

Json model_group(ModelConfig model) {
  Fields fields;
  model.describe(fields);
  return fields.dump();
}

namespace {

// transformers keeps keys that it does not know.
constexpr const char* kFirstTokenKey = "sluice_first_token";
constexpr const char* kMaskTokenKey = "sluice_mask_token";

int64_t token_at(const char* key, const Json& config, const std::string& file, int64_t vocab_size) {
  const auto token = config.find(key);
  if (token == config.end()) return -1;
  if (!token->is_number_unsigned() || token->get<uint64_t>() >= uint64_t(vocab_size))
    throw UserError("{}: {} is {}, which is no token of the model", file, key, token->dump());
  return token->get<int64_t>();
}

}  // namespace

Json exported_config(Architecture architecture, const ModelConfig& model, const std::string& stored_type,
                     const Tokenizer* tokenizer, const TrainedTokens& trained) {
  Json config = architecture == Architecture::kGpt2     ? gpt2_config(model)
                : architecture == Architecture::kBert   ? bert_config(model)
                : architecture == Architecture::kSluice ? sluice_config(model)
                                                        : llama_config(architecture, model);
  config["torch_dtype"] = stored_type;
  config["use_cache"] = model.causal;
  // Left out, the first two would be the library's defaults for the architecture.
  const auto id = [](int32_t token) { return token < 0 ? Json() : Json(token); };
  config["bos_token_id"] = id(tokenizer ? tokenizer->end_of_text() : -1);
  config["eos_token_id"] = id(tokenizer ? tokenizer->ends_text() : -1);
  config["pad_token_id"] = nullptr;
  if (trained.first >= 0) config[kFirstTokenKey] = trained.first;
  if (trained.mask >= 0) config[kMaskTokenKey] = trained.mask;
  return config;
}

std::string dropout_left_out(Architecture architecture, const ModelConfig& model, const Json& config) {
  const bool own = architecture == Architecture::kSluice;  // whose Python drops nothing
  const Json said = own ? Json::object() : read_dropout(architecture, config);
  std::string out;
  for (const auto& [key, value] : {std::pair{"hidden", model.dropout.hidden},
                                   {"attention", model.dropout.attention},
                                   {"embedding", model.dropout.embedding}}) {
    const double there = said.value(key, 0.0);
    if (there == value) continue;
    out += fmt::format("{}model.dropout.{} = {}", out.empty() ? "" : ", ", key, value);
    if (!own) out += fmt::format(" (it takes {})", there);
  }
  if (out.empty()) return out;
  if (own) return fmt::format("modeling_sluice.py drops nothing: {} is kept for sluice import alone", out);
  return fmt::format("{} has no field for {}: training that goes on there differs",
                     config["architectures"][0].get<std::string>(), out);
}

ForeignModel read_foreign_config(const Json& stored, const std::string& file, int64_t context,
                                 const std::vector<std::string>& ignore, Nulls nulls) {
  if (!stored.is_object()) throw UserError("{} is no JSON object", file);
  Json config = stored;
  std::vector<std::string> ignored, tensors;
  for (const std::string& name : ignore) {
    std::string text = take_out(config, name);
    if (text.empty()) tensors.push_back(name);
    else ignored.push_back(std::move(text));
  }
  auto [architecture, json] = read_family(ConfigReader(config, file, nulls == Nulls::kAreDoubtful), context);
  if (architecture != Architecture::kSluice) json["dropout"] = read_dropout(architecture, config);
  ForeignModel out{architecture, parse_model(json, file), 0, {}, std::move(ignored), 1, std::move(tensors)};
  out.positions = out.model.context;
  if (architecture == Architecture::kBert) out.segments = config.value("type_vocab_size", int64_t{2});
  out.trained = {.first = token_at(kFirstTokenKey, config, file, out.model.vocab_size),
                 .mask = token_at(kMaskTokenKey, config, file, out.model.vocab_size)};
  if (context == 0) return out;
  if (out.model.position == Position::kLearned && context > out.positions) {
    throw UserError(
        "--context {}: the model of {} has {} learned positions, and a longer context has none to begin with", context,
        file, out.positions);
  }
  for (const AttentionConfig* attention : out.model.attention.kinds()) {
    const std::string tied = attention->tied_to_context();
    if (!tied.empty() && context != out.positions)
      throw UserError("--context {}: in {} {}, which another context would change; leave --context out", context, file,
                      tied);
  }
  json["context"] = context;
  out.model = parse_model(json, "--context " + std::to_string(context));
  return out;
}

// Python writes NaN and Infinity, which are no JSON, into fields that mostly matter to nobody.
ForeignModel read_foreign_model(const fs::path& folder, int64_t context, const std::vector<std::string>& ignore) {
  if (!fs::exists(folder)) throw UserError("{}: no such folder", folder.string());
  if (!fs::is_directory(folder)) throw UserError("{} is a file, and a model's folder is asked for", folder.string());
  const char* adapter = "adapter_config.json";
  if (fs::exists(folder / adapter) && std::find(ignore.begin(), ignore.end(), adapter) == ignore.end())
    throw UserError(
        "{} has an {}, so that the library would put that adapter over the weights: merge it into them first, or "
        "leave it out with --ignore {}",
        folder.string(), adapter, adapter);
  const std::string file = (folder / "config.json").string();
  const Json config = read_json_file(file, {.non_finite = true, .replace_surrogates = true});
  if (is_resolved_config(config))
    throw UserError("{} is a run of Sluice's already, and needs no import", folder.string());
  Nulls nulls = Nulls::kAreNulls;
  try {
    read_json_file(file);
  } catch (const UserError&) {
    nulls = Nulls::kAreDoubtful;
  }
  return read_foreign_config(config, file, context, ignore, nulls);
}

}  // namespace sluice
