// See foreign_config.h.
#include "train/interchange/foreign_config.h"

#include <fmt/ranges.h>

#include <array>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json_reader.h"
#include "base/limits.h"

namespace sluice {
namespace {

constexpr const char* kImported = "gpt2, llama, mistral, qwen3, and what sluice export has written (sluice)";

// The names of transformers for model.mlp, the one to write first.
constexpr std::array<std::pair<const char*, const char*>, 5> kActivations = {{{"gelu", "gelu_new"},
                                                                              {"gelu", "gelu_pytorch_tanh"},
                                                                              {"gelu", "gelu_fast"},
                                                                              {"relu", "relu"},
                                                                              {"relu_squared", "relu2"}}};

std::string activation_name(const std::string& mlp) {
  for (const auto& [ours, theirs] : kActivations)
    if (mlp == ours) return theirs;
  return "";
}

bool has_plain_attention(const AttentionConfig& attention) {
  return attention.score.type == "softmax" && !attention.gate.present() && !attention.key_bias &&
         !attention.key_value_bias;
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
          {"activation_function", activation_name(model.mlp)},
          {"layer_norm_epsilon", model.norm_epsilon},
          {"initializer_range", model.init_std},
          {"resid_pdrop", 0.0},
          {"embd_pdrop", 0.0},
          {"attn_pdrop", 0.0},
          {"tie_word_embeddings", model.tied_head}};
}

// rope_theta is where version 4 of the library looks, and rope_parameters where version 5 does.
Json llama_config(Architecture architecture, const ModelConfig& model) {
  const bool qwen3 = architecture == Architecture::kQwen3;
  Json config = {{"architectures", {qwen3 ? "Qwen3ForCausalLM" : "LlamaForCausalLM"}},
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
                 {"rope_parameters", {{"rope_theta", model.rope_theta}, {"rope_type", "default"}}},
                 {"initializer_range", model.init_std},
                 {"attention_bias", model.bias},
                 {"attention_dropout", 0.0},
                 {"tie_word_embeddings", model.tied_head}};
  if (!qwen3) config["mlp_bias"] = model.bias;
  return config;
}

// What the Python file reads is sluice_model; the sizes beside it are for programs that only look.
Json sluice_config(const ModelConfig& model) {
  return {
      {"architectures", {"SluiceForCausalLM"}},
      {"model_type", "sluice"},
      {"auto_map",
       {{"AutoConfig", "modeling_sluice.SluiceConfig"}, {"AutoModelForCausalLM", "modeling_sluice.SluiceForCausalLM"}}},
      {"sluice_model", model_group(model)},
      {"vocab_size", model.vocab_size},
      {"max_position_embeddings", model.context},
      {"hidden_size", model.width},
      {"num_hidden_layers", model.layers},
      {"num_attention_heads", model.heads},
      {"num_key_value_heads", model.kv_heads},
      {"tie_word_embeddings", false}};  // the Python file uses one weight twice where the head is tied
}

// ---- reading --------------------------------------------------------------------------------------------------------

std::string value_text(const Json& value) { return excerpt(value.dump(), kMostQuoted); }

// Fields of a config.json, with the file and the field in every message.
class Reader {
 public:
  Reader(const Json& config, const std::string& file) : config_(config), file_(file) {}

  [[noreturn]] void refuse(const std::string& key, const std::string& why) const {
    throw UserError("{}: {} is {}, but {}", file_, key, at(key) ? value_text(*at(key)) : "missing", why);
  }

  // The value, or nullptr where the field is missing or null.
  const Json* at(const std::string& key) const {
    const auto found = config_.find(key);
    return found == config_.end() || found->is_null() ? nullptr : &*found;
  }

  int64_t integer(const std::string& key, std::optional<int64_t> otherwise = std::nullopt) const {
    const Json* value = at(key);
    if (value == nullptr && otherwise) return *otherwise;
    // No size is larger, and a product of two fits in 64 bits.
    constexpr double kLargest = 2147483647;
    if (value == nullptr || !value->is_number_integer() || std::abs(value->get<double>()) > kLargest)
      refuse(key, "an integer below 2^31 is needed");
    return value->get<int64_t>();
  }
  double number(const std::string& key, double otherwise) const {
    const Json* value = at(key);
    if (value == nullptr) return otherwise;
    if (!value->is_number()) refuse(key, "a number is needed");
    return value->get<double>();
  }
  bool boolean(const std::string& key, bool otherwise) const {
    const Json* value = at(key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) refuse(key, "true or false is needed");
    return value->get<bool>();
  }
  std::string text(const std::string& key, const std::string& otherwise) const {
    const Json* value = at(key);
    if (value == nullptr) return otherwise;
    if (!value->is_string()) refuse(key, "a string is needed");
    return value->get<std::string>();
  }
  void must_be(const std::string& key, bool only, const std::string& why) const {
    if (boolean(key, only) != only) refuse(key, why);
  }
  void must_be_absent(const std::string& key, const std::string& why) const {
    if (at(key) != nullptr) refuse(key, why);
  }

  const std::string& file() const { return file_; }

 private:
  const Json& config_;
  const std::string& file_;
};

// Only for training from new weights, and so left at its default where Sluice has no such value.
void take_init_std(Json& model, const Reader& config) {
  const double std = config.number("initializer_range", 0);
  if (std > 0 && std < 10) model["init_std"] = std;
}

Json read_gpt2(const Reader& config) {
  const std::string activation = config.text("activation_function", "gelu_new");
  const char* mlp = nullptr;
  std::vector<std::string> names;
  for (const auto& [ours, theirs] : kActivations) {
    names.push_back(theirs);
    if (activation == theirs) mlp = ours;
  }
  if (mlp == nullptr) config.refuse("activation_function", fmt::format("Sluice computes {}", fmt::join(names, ", ")));
  config.must_be("scale_attn_weights", true, "Sluice divides scores by the root of the head size");
  config.must_be("scale_attn_by_inverse_layer_idx", false, "Sluice scales the scores of every layer alike");
  config.must_be("add_cross_attention", false, "Sluice has no cross-attention");
  const int64_t width = config.integer("n_embd");
  Json model = {{"vocab_size", config.integer("vocab_size")},
                {"context", config.integer("n_positions")},
                {"layers", config.integer("n_layer")},
                {"heads", config.integer("n_head")},
                {"width", width},
                {"mlp_width", config.integer("n_inner", 4 * width)},
                {"norm", "layernorm"},
                {"norm_epsilon", config.number("layer_norm_epsilon", 1e-5)},
                {"mlp", mlp},
                {"position", "learned"},
                {"bias", true},
                {"tied_head", config.boolean("tie_word_embeddings", true)},
                {"init", "gpt2"},
                {"attention", "softmax"}};
  take_init_std(model, config);
  return model;
}

// The base of RoPE's angles. The field's name and shape depend on the version of the library that wrote it.
double read_rope_theta(const Reader& config) {
  double theta = config.number("rope_theta", 10000);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const Json* rope = config.at(key);
    if (rope == nullptr) continue;
    if (!rope->is_object()) config.refuse(key, "an object is needed");
    const Reader inner(*rope, config.file());
    const std::string type = inner.text("rope_type", inner.text("type", "default"));
    if (type != "default" || inner.number("partial_rotary_factor", 1) != 1)
      config.refuse(key, "Sluice turns all features by plain RoPE, without scaling");
    theta = inner.number("rope_theta", theta);
  }
  if (config.number("partial_rotary_factor", 1) != 1)
    config.refuse("partial_rotary_factor", "Sluice turns all features of a head");
  return theta;
}

void check_window(const Reader& config, int64_t context) {
  const bool used = config.text("model_type", "") == "mistral" || config.boolean("use_sliding_window", false);
  if (!used || config.at("sliding_window") == nullptr) return;
  const int64_t window = config.integer("sliding_window");
  if (window < context) {
    config.refuse("sliding_window", fmt::format("Sluice's attention sees the whole context of {} tokens (--context {} "
                                                "keeps it within the window)",
                                                context, window));
  }
}

// Sluice has biases in all linear layers or in none. Qwen3's MLP has none.
bool read_bias(const Reader& config) {
  const bool attention = config.boolean("attention_bias", false), mlp = config.boolean("mlp_bias", false);
  if (attention != mlp)
    config.refuse("attention_bias", fmt::format("biases of attention and MLP ({}) come together in Sluice", mlp));
  return attention;
}

Json read_llama(const Reader& config, bool qk_norm, int64_t context) {
  const int64_t heads = config.integer("num_attention_heads"), width = config.integer("hidden_size");
  if (heads < 1) config.refuse("num_attention_heads", "a model has at least one");
  if (config.integer("head_dim", width / heads) * heads != width)
    config.refuse("head_dim", fmt::format("hidden_size / num_attention_heads is {} / {}", width, heads));
  if (config.text("hidden_act", "silu") != "silu") config.refuse("hidden_act", "Sluice computes silu there");
  const int64_t positions = config.integer("max_position_embeddings");
  check_window(config, context > 0 ? context : positions);
  Json model = {{"vocab_size", config.integer("vocab_size")},
                {"context", positions},
                {"layers", config.integer("num_hidden_layers")},
                {"heads", heads},
                {"kv_heads", config.integer("num_key_value_heads", heads)},
                {"width", width},
                {"mlp_width", config.integer("intermediate_size")},
                {"norm", "rmsnorm"},
                {"norm_epsilon", config.number("rms_norm_eps", 1e-6)},
                {"mlp", "swiglu"},
                {"position", "rope"},
                {"rope_theta", read_rope_theta(config)},
                {"qk_norm", qk_norm},
                {"bias", read_bias(config)},
                {"tied_head", config.boolean("tie_word_embeddings", false)},
                {"init", "gpt2"},
                {"attention", "softmax"}};
  take_init_std(model, config);
  return model;
}

Json read_sluice(const Reader& config) {
  const Json* model = config.at("sluice_model");
  if (model == nullptr || !model->is_object()) config.refuse("sluice_model", "the model's config is needed");
  return *model;
}

std::pair<Architecture, Json> read_model(const Reader& config, int64_t context) {
  const std::string type = config.text("model_type", "");
  if (type == "gpt2") return {Architecture::kGpt2, read_gpt2(config)};
  if (type == "llama" || type == "mistral") return {Architecture::kLlama, read_llama(config, false, context)};
  if (type == "qwen3") return {Architecture::kQwen3, read_llama(config, true, context)};
  if (type == "sluice") return {Architecture::kSluice, read_sluice(config)};
  config.refuse("model_type", fmt::format("Sluice imports {}", kImported));
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
    case Architecture::kQwen3: return "qwen3";
    case Architecture::kSluice: return "sluice";
  }
  return "?";
}

Architecture native_architecture(const ModelConfig& model) {
  if (!has_plain_attention(model.attention)) return Architecture::kSluice;
  if (model.norm == "layernorm" && model.position == "learned" && model.bias && !model.qk_norm &&
      model.kv_heads == model.heads && !activation_name(model.mlp).empty())
    return Architecture::kGpt2;
  if (model.norm == "rmsnorm" && model.position == "rope" && model.mlp == "swiglu") {
    if (!model.qk_norm) return Architecture::kLlama;
    if (!model.bias) return Architecture::kQwen3;
  }
  return Architecture::kSluice;
}

Json model_group(ModelConfig model) {
  Fields fields;
  model.describe(fields);
  return fields.dump();
}

constexpr const char* kFirstTokenKey = "sluice_first_token";  // transformers keeps keys that it does not know

Json exported_config(Architecture architecture, const ModelConfig& model, const std::string& stored_type,
                     const Tokenizer* tokenizer, int64_t first_token) {
  Json config = architecture == Architecture::kGpt2     ? gpt2_config(model)
                : architecture == Architecture::kSluice ? sluice_config(model)
                                                        : llama_config(architecture, model);
  config["torch_dtype"] = stored_type;
  config["use_cache"] = true;
  // Left out, the first two would be the library's defaults for the architecture.
  const auto id = [](int32_t token) { return token < 0 ? Json() : Json(token); };
  config["bos_token_id"] = id(tokenizer ? tokenizer->end_of_text() : -1);
  config["eos_token_id"] = id(tokenizer ? tokenizer->ends_text() : -1);
  config["pad_token_id"] = nullptr;
  if (first_token >= 0) config[kFirstTokenKey] = first_token;
  return config;
}

ForeignModel read_foreign_config(const Json& config, const std::string& file, int64_t context) {
  if (!config.is_object()) throw UserError("{} is no JSON object", file);
  const Reader reader(config, file);
  reader.must_be_absent("quantization_config", "Sluice imports F32, F16 and BF16 weights");
  auto [architecture, json] = read_model(reader, context);
  ForeignModel out{architecture, parse_model(json, file), 0, -1};
  out.positions = out.model.context;
  if (const auto first = config.find(kFirstTokenKey); first != config.end()) {
    if (!first->is_number_unsigned() || first->get<uint64_t>() >= uint64_t(out.model.vocab_size))
      throw UserError("{}: {} is {}, which is no token of the model", file, kFirstTokenKey, first->dump());
    out.first_token = first->get<int64_t>();
  }
  if (context == 0) return out;
  if (out.model.position == "learned" && context > out.positions) {
    throw UserError(
        "--context {}: the model of {} has {} learned positions, and a longer context has none to begin with", context,
        file, out.positions);
  }
  if (out.model.attention.score.alpha > 0 && context != out.positions) {
    throw UserError("--context {}: the clipped softmax of {} has gamma = -alpha / context, which another context would change; "
                    "leave --context out", context, file);
  }
  json["context"] = context;
  out.model = parse_model(json, "--context " + std::to_string(context));
  return out;
}

}  // namespace sluice
