#include "interchange/foreign_bert.h"

#include "interchange/foreign_fields.h"

namespace sluice {

bool is_bert(const ModelConfig& model) {
  const bool of_bert = model.residual.type == "post_norm" && model.segment_embedding && model.head_transform &&
                       model.head_bias && model.tied_head && model.mlp == MlpKind::kGeluErf;
  const bool plain = model.attention.is_plain() && !model.qk_norm && model.norm_gate == 0 && model.registers == 0 &&
                     model.kv_heads == model.heads && model.value_head_size() == model.head_size() &&
                     model.heads * model.head_size() == model.width;
  return of_bert && plain && !model.causal && model.norm == Norm::kLayerNorm && model.position == Position::kLearned &&
         model.bias && model.qkv_bias() && model.attention_output_bias();
}

// A table of one segment: the row that all tokens have.
Json bert_config(const ModelConfig& model) {
  return {{"architectures", {"BertForMaskedLM"}},
          {"model_type", "bert"},
          {"vocab_size", model.vocab_size},
          {"max_position_embeddings", model.context},
          {"hidden_size", model.width},
          {"num_hidden_layers", model.layers},
          {"num_attention_heads", model.heads},
          {"intermediate_size", model.mlp_width},
          {"hidden_act", "gelu"},
          {"hidden_dropout_prob", model.dropout.hidden},
          {"attention_probs_dropout_prob", model.dropout.attention},
          {"type_vocab_size", 1},
          {"layer_norm_eps", model.norm_epsilon},
          {"initializer_range", model.init_std},
          {"position_embedding_type", "absolute"},
          {"is_decoder", false},
          {"tie_word_embeddings", true}};
}

// Of the segments the first is read: every token is of it.
Json read_bert(const ConfigReader& config) {
  config.must_be("is_decoder", false, "Sluice reads BERT as the encoder that it is");
  config.must_be("tie_word_embeddings", true, "the head of Sluice's BERT shares the embedding");
  const std::string positions = config.text("position_embedding_type", "absolute");
  if (positions != "absolute") config.refuse("position_embedding_type", "Sluice computes absolute positions there");
  if (config.integer("type_vocab_size", 2) < 1) config.refuse("type_vocab_size", "there is a segment at least");
  config.pass_over({"hidden_dropout_prob", "attention_probs_dropout_prob", "directionality", "pooler_fc_size",
                    "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"});
  const int64_t width = config.integer("hidden_size");
  Json model = {{"vocab_size", config.integer("vocab_size")},
                {"context", config.integer("max_position_embeddings")},
                {"layers", config.integer("num_hidden_layers")},
                {"heads", read_heads(config, "num_attention_heads")},
                {"width", width},
                {"mlp_width", config.integer("intermediate_size", 4 * width)},
                {"norm", "layernorm"},
                {"norm_epsilon", config.number("layer_norm_eps", 1e-12)},
                {"mlp", read_activation(config, "hidden_act", "gelu")},
                {"position", "learned"},
                {"causal", false},
                {"residual", "post_norm"},
                {"segment_embedding", true},
                {"head_transform", true},
                {"head_bias", true},
                {"bias", true},
                {"tied_head", true},
                {"init", "bert"},
                {"attention", "softmax"}};
  take_init_std(model, config);
  return model;
}

}  // namespace sluice
