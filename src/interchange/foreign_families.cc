// A function for each family that reads its fields, and refuses what Sluice does not compute (foreign_families.h).
#include "interchange/foreign_families.h"

#include <fmt/ranges.h>

#include "base/error.h"
#include "interchange/foreign_bert.h"
#include "interchange/foreign_fields.h"

namespace sluice {
namespace {

constexpr const char* kImported =
    "gpt2, llama, mistral, qwen2, qwen3, opt, gpt_neox, bert, and what sluice export has written (sluice)";

// Fields of every family that say nothing about what the model computes for given tokens: how it is stored, loaded and
// trained (its dropout is read in foreign_config.cc), how text is written with it, heads for other tasks.
// clang-format off
const std::vector<std::string> kHarmless = {
    // storage, library
    "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "transformers.js_config", "_name_or_path",
    "name_or_path", "_commit_hash", "torchscript", "use_bfloat16", "use_cache", "return_dict", "output_attentions",
    "output_hidden_states", "_attn_implementation", "attn_implementation", "_attn_implementation_autoset",
    "_attn_implementation_internal", "_experts_implementation", "_experts_implementation_internal", "gradient_checkpointing",
    "unsloth_fixed", "unsloth_version", "is_llama_config", "sluice_first_token", "sluice_mask_token",
    // tokens and their texts
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id",
    "decoder_start_token_id", "tokenizer_class", "prefix", "model_max_length",
    // training
    "resid_pdrop", "embd_pdrop", "attn_pdrop", "attention_dropout", "hidden_dropout", "dropout", "activation_dropout",
    "layerdrop", "residual_dropout", "classifier_dropout", "initializer_factor", "init_std", "initializer_range",
    // heads for other tasks
    "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params", "summary_type",
    "summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_first_dropout",
    // the same sums in another order or type; what an encoder would need to be causal
    "chunk_size_feed_forward", "pretraining_tp", "reorder_and_upcast_attn", "is_decoder",
    // writing text
    "do_sample", "max_length", "max_new_tokens", "min_length", "temperature", "top_k", "top_p", "typical_p",
    "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
    "num_return_sequences", "num_beams", "num_beam_groups", "diversity_penalty", "early_stopping", "forced_bos_token_id",
    "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens", "remove_invalid_values",
    "exponential_decay_length_penalty", "output_scores", "return_dict_in_generate", "tf_legacy_loss",
};
// clang-format on

// Fields that any family may have and that change nothing at this value.
void check_common(const ConfigReader& config) {
  config.pass_over(kHarmless);
  config.must_be_absent("quantization_config", "Sluice imports F32, F16 and BF16 weights");
  for (const char* key : {"is_encoder_decoder", "add_cross_attention", "tie_encoder_decoder"})
    config.must_be(key, false, "Sluice has no cross-attention");
  config.must_be_absent("cross_attention_hidden_size", "Sluice has no cross-attention");
  if (const Json* pruned = config.at("pruned_heads"); pruned != nullptr && !pruned->empty())
    config.refuse("pruned_heads", "heads of every layer are as many in Sluice");
}

// ---- GPT-2, OPT ------------------------------------------------------------------------------------------------------

Json read_gpt2(const ConfigReader& config) {
  const char* mlp = read_activation(config, "activation_function", "gelu_new");
  config.must_be("scale_attn_weights", true, "Sluice divides scores by the root of the head size");
  config.must_be("scale_attn_by_inverse_layer_idx", false, "Sluice scales the scores of every layer alike");
  config.pass_over({"n_ctx", "n_special", "predict_special_tokens"});  // n_positions says what n_ctx did
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

Json read_opt(const ConfigReader& config) {
  const int64_t width = config.integer("hidden_size");
  config.must_be("do_layer_norm_before", true, "Sluice's norms stand before attention and MLP");
  config.must_be("_remove_final_layer_norm", false, "Sluice has a norm before the head");
  config.must_be("layer_norm_elementwise_affine", true, "Sluice's norms have gains and biases");
  if (config.integer("word_embed_proj_dim", width) != width)
    config.refuse("word_embed_proj_dim", fmt::format("Sluice's embeddings are as wide as the model ({})", width));
  Json model = {{"vocab_size", config.integer("vocab_size")},
                {"context", config.integer("max_position_embeddings")},
                {"layers", config.integer("num_hidden_layers")},
                {"heads", config.integer("num_attention_heads")},
                {"width", width},
                {"mlp_width", config.integer("ffn_dim")},
                {"norm", "layernorm"},
                {"norm_epsilon", 1e-5},
                {"mlp", read_activation(config, "activation_function", "relu")},
                {"position", "learned"},
                {"bias", config.boolean("enable_bias", true)},
                {"tied_head", config.boolean("tie_word_embeddings", true)},
                {"init", "gpt2"},
                {"attention", "softmax"}};
  take_init_std(model, config, "init_std");
  return model;
}

// ---- rotary positions ------------------------------------------------------------------------------------------------

struct ForeignRope {
  double theta = 10000;
  double turned_share = 1;  // of a head's features
  Json scaling = {{"type", "none"}};
};

Json read_scaling(const ConfigReader& rope, const std::string& type, int64_t positions) {
  if (type == "default") return {{"type", "none"}};
  const auto need = [&](const char* key) {
    if (rope.at(key) == nullptr) rope.refuse(key, type + " needs it");
    return rope.number(key, 1);
  };
  if (type == "linear") return {{"type", "linear"}, {"factor", need("factor")}};
  if (type != "llama3")
    rope.refuse(rope.at("rope_type") ? "rope_type" : "type", "Sluice computes default, linear and llama3");
  return {{"type", "llama3"},
          {"factor", need("factor")},
          {"low_freq_factor", need("low_freq_factor")},
          {"high_freq_factor", need("high_freq_factor")},
          {"original_context", rope.integer("original_max_position_embeddings", positions)}};
}

// The fields' names and places depend on the version of the library that wrote them.
ForeignRope read_rope(const ConfigReader& config, const char* theta_key, const char* share_key, double share,
                      int64_t positions) {
  ForeignRope out{config.number(theta_key, 10000), config.number(share_key, share), {{"type", "none"}}};
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const auto rope = config.object(key);
    if (!rope) continue;
    const std::string type = rope->text("rope_type", rope->text("type", "default"));
    rope->text("type", "");
    if (type == "default") rope->pass_over({"original_max_position_embeddings"});
    const Json scaling = read_scaling(*rope, type, positions);
    if (out.scaling["type"] != "none" && scaling != out.scaling)
      config.refuse(key, "rope_parameters says something else");
    out.scaling = scaling;
    out.theta = rope->number("rope_theta", out.theta);
    out.turned_share = rope->number("partial_rotary_factor", out.turned_share);
  }
  return out;
}

// ---- LLaMA and its like ----------------------------------------------------------------------------------------------

// What is imported has no windows: layers that see one compute the same where no sequence is longer.
void check_window(const ConfigReader& config, const std::string& type, int64_t context) {
  bool used = type == "mistral" || config.boolean("use_sliding_window", false);
  if (const Json* types = config.at("layer_types"); types != nullptr) {
    if (!types->is_array()) config.refuse("layer_types", "a list is needed");
    for (const Json& one : *types) {
      if (one != "full_attention" && one != "sliding_attention")
        config.refuse("layer_types", "Sluice computes full_attention, and sliding_attention within its window");
      used = used || one == "sliding_attention";
    }
  }
  config.pass_over({"sliding_window", "max_window_layers"});
  constexpr int64_t kDefault = 4096;  // of the library's classes; null says that there is none
  if (!used || (config.has("sliding_window") && config.at("sliding_window") == nullptr)) return;
  const int64_t window = config.integer("sliding_window", kDefault);
  if (window < 1) config.refuse("sliding_window", "a window has at least 1 token");
  if (window < context) {
    config.refuse("sliding_window", fmt::format("what is imported sees the whole context of {} tokens (--context {} "
                                                "keeps it within the window)",
                                                context, window));
  }
}

void read_llama_biases(const ConfigReader& config, const std::string& type, Json& model) {
  if (type == "qwen2") {
    model["bias"] = false;
    model["attention_bias"] = "qkv";
    return;
  }
  const auto read = [&](const char* key, bool has) {
    if (!has) config.must_be(key, false, type + " has no such biases");
    return has && config.boolean(key, false);
  };
  const bool attention = read("attention_bias", type != "mistral"), mlp = read("mlp_bias", type == "llama");
  model["bias"] = mlp;
  if (attention != mlp) model["attention_bias"] = attention ? "all" : "none";
}

Json read_llama(const ConfigReader& config, const std::string& type, int64_t context) {
  const int64_t heads = read_heads(config, "num_attention_heads"), width = config.integer("hidden_size");
  // Qwen3's class has a default of its own for a head's size.
  const int64_t head_size = config.integer("head_dim", type == "qwen3" ? 128 : width / heads);
  const std::string activation = config.text("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") config.refuse("hidden_act", "Sluice computes silu there");
  const int64_t positions = config.integer("max_position_embeddings");
  check_window(config, type, context > 0 ? context : positions);
  for (const char* key : {"rope_interleaved", "use_mrope"})
    config.must_be(key, false, "Sluice pairs the features of a head half by half");
  const ForeignRope rope = read_rope(config, "rope_theta", "partial_rotary_factor", 1, positions);
  if (rope.turned_share != 1)
    config.refuse("partial_rotary_factor", fmt::format("{} turns all features of a head", type));
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
                {"rope_theta", rope.theta},
                {"rope_scaling", rope.scaling},
                {"qk_norm", type == "qwen3"},
                {"tied_head", config.boolean("tie_word_embeddings", false)},
                {"init", "gpt2"},
                {"attention", "softmax"}};
  if (head_size < 1) config.refuse("head_dim", "a head has at least 1 feature");
  if (head_size * heads != width) model["head_size"] = head_size;
  read_llama_biases(config, type, model);
  take_init_std(model, config);
  return model;
}

// ---- GPT-NeoX --------------------------------------------------------------------------------------------------------

Json read_neox(const ConfigReader& config) {
  const int64_t heads = read_heads(config, "num_attention_heads"), width = config.integer("hidden_size");
  const int64_t positions = config.integer("max_position_embeddings");
  ForeignRope rope = read_rope(config, "rotary_emb_base", "rotary_pct", 0.25, positions);
  rope.theta = config.number("rope_theta", rope.theta);
  rope.turned_share = config.number("partial_rotary_factor", rope.turned_share);
  const bool is_share = rope.turned_share > 0 && rope.turned_share <= 1;
  const int64_t head_size = width / heads, turned = is_share ? int64_t(double(head_size) * rope.turned_share) : 0;
  if (turned < 2 || turned % 2 != 0)
    config.refuse("rotary_pct", fmt::format("of the {} features of a head an even number must turn", head_size));
  Json model = {{"vocab_size", config.integer("vocab_size")},
                {"context", positions},
                {"layers", config.integer("num_hidden_layers")},
                {"heads", heads},
                {"width", width},
                {"mlp_width", config.integer("intermediate_size")},
                {"norm", "layernorm"},
                {"norm_epsilon", config.number("layer_norm_eps", 1e-5)},
                {"mlp", read_activation(config, "hidden_act", "gelu")},
                {"position", "rope"},
                {"rope_theta", rope.theta},
                {"rope_scaling", rope.scaling},
                {"parallel_residual", config.boolean("use_parallel_residual", true)},
                {"bias", true},
                {"tied_head", config.boolean("tie_word_embeddings", false)},
                {"init", "gpt2"},
                {"attention", "softmax"}};
  if (turned != head_size) model["rotary_features"] = turned;
  if (!config.boolean("attention_bias", true)) model["attention_bias"] = "none";
  take_init_std(model, config);
  return model;
}

// ---- all of them -----------------------------------------------------------------------------------------------------

Json read_sluice(const ConfigReader& config) {
  const Json* model = config.at("sluice_model");
  if (model == nullptr || !model->is_object()) config.refuse("sluice_model", "the model's config is needed");
  // The sizes beside it repeat it, and the Python file beside the weights is ours.
  config.pass_over({"auto_map", "vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers",
                    "num_attention_heads", "num_key_value_heads", "tie_word_embeddings"});
  return *model;
}

// Why some well-known families cannot be had, for those who try them.
std::string reason_against(const std::string& type) {
  if (type == "gpt_oss")
    return "its MLP is a mixture of experts, while Sluice has one dense MLP (its attention is the preset sink_logit, "
           "with a "
           "window in every other layer); ";
  if (type.find("moe") != std::string::npos || type == "mixtral" || type.starts_with("deepseek"))
    return "it is a mixture of experts, while Sluice has one dense MLP; ";
  if (type.starts_with("gemma"))
    return "Sluice has neither its scaled embeddings nor its norms after attention and MLP; ";
  return "";
}

std::pair<Architecture, Json> read_by_type(const ConfigReader& config, int64_t context) {
  const std::string type = config.text("model_type", "");
  if (type == "gpt2") return {Architecture::kGpt2, read_gpt2(config)};
  if (type == "opt") return {Architecture::kOpt, read_opt(config)};
  if (type == "bert") return {Architecture::kBert, read_bert(config)};
  if (type == "gpt_neox") return {Architecture::kGptNeoX, read_neox(config)};
  if (type == "llama" || type == "mistral") return {Architecture::kLlama, read_llama(config, type, context)};
  if (type == "qwen2") return {Architecture::kQwen2, read_llama(config, type, context)};
  if (type == "qwen3") return {Architecture::kQwen3, read_llama(config, type, context)};
  if (type == "sluice") return {Architecture::kSluice, read_sluice(config)};
  config.refuse("model_type", fmt::format("{}Sluice imports {}", reason_against(type), kImported));
}

}  // namespace

std::pair<Architecture, Json> read_family(const ConfigReader& config, int64_t context) {
  config.must_be_absent("quantization_config", "Sluice imports F32, F16 and BF16 weights");
  auto found = read_by_type(config, context);
  check_common(config);
  if (found.first == Architecture::kSluice) return found;  // sluice_model says everything
  std::vector<std::string> others = config.others();
  if (others.empty()) return found;
  constexpr size_t kShown = 6;
  const size_t more = others.size() > kShown ? others.size() - kShown : 0;
  const std::string first = others[0].substr(0, others[0].find(" = "));
  others.resize(others.size() - more);
  throw UserError(
      "{}: Sluice does not know {}{}, which may change what the model computes; --ignore {} imports it as if the "
      "field were not there",
      config.file(), fmt::join(others, ", "), more > 0 ? fmt::format(" and {} more", more) : "", first);
}

}  // namespace sluice
