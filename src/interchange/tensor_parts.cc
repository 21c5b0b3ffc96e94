// A function for each family that lists its tensors (tensor_parts.h).
#include "interchange/tensor_parts.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "kernels/backend.h"
#include "model/transformer.h"

namespace sluice {
namespace {

// Collects the parts, with the parameters' sizes at hand.
class Parts {
 public:
  explicit Parts(const std::vector<ParamSpec>& parameters) {
    for (const ParamSpec& spec : parameters) specs_[spec.name] = &spec;
  }

  void whole(const std::string& theirs, const std::string& ours, bool transposed = false) {
    rows(theirs, ours, 0, rows_of(spec(ours)), transposed);
  }
  void rows(const std::string& theirs, const std::string& ours, int64_t first, int64_t count, bool transposed = false) {
    const ParamSpec& parameter = spec(ours);
    const int64_t columns = parameter.shape.rank() > 1 ? parameter.shape.cols() : 0;
    list_.push_back({theirs, ours, first, count, columns, transposed});
    covered_[ours] += count;
  }
  // The same of rows [stored_first, ...) of a tensor with `stored` rows in all.
  void some(const std::string& theirs, const std::string& ours, int64_t first, int64_t count, int64_t stored_first,
            int64_t stored) {
    rows(theirs, ours, first, count);
    list_.back().stored_first = stored_first;
    list_.back().stored_rows = stored;
  }
  bool has(const std::string& ours) const { return specs_.contains(ours); }

  std::vector<TensorPart> finish() {
    for (const auto& [name, spec] : specs_) check_eq(covered_[name], rows_of(*spec), name.c_str());
    return std::move(list_);
  }

 private:
  static int64_t rows_of(const ParamSpec& spec) {
    return spec.shape.rank() > 1 ? spec.shape.rows() : spec.shape.elements();
  }
  const ParamSpec& spec(const std::string& name) const {
    const auto found = specs_.find(name);
    check(found != specs_.end(), "a tensor of a folder is mapped to a parameter that the model has not");
    return *found->second;
  }

  std::map<std::string, const ParamSpec*> specs_;
  std::map<std::string, int64_t> covered_;
  std::vector<TensorPart> list_;
};

std::vector<TensorPart> gpt2_parts(const ModelConfig& model, Parts parts) {
  const auto both = [&](const std::string& theirs, const std::string& ours, bool transposed) {
    parts.whole(theirs + ".weight", ours + ".weight", transposed);
    parts.whole(theirs + ".bias", ours + ".bias");
  };
  parts.whole("transformer.wte.weight", kEmbedding);
  parts.whole("transformer.wpe.weight", "embedding.position.weight");
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string theirs = fmt::format("transformer.h.{}.", layer), ours = fmt::format("blocks.{}.", layer);
    both(theirs + "ln_1", ours + "norm1", false);
    both(theirs + "attn.c_attn", ours + "attention.qkv", true);
    both(theirs + "attn.c_proj", ours + "attention.output", true);
    both(theirs + "ln_2", ours + "norm2", false);
    both(theirs + "mlp.c_fc", ours + "mlp.up", true);
    both(theirs + "mlp.c_proj", ours + "mlp.down", true);
  }
  both("transformer.ln_f", "final_norm", false);
  if (!model.tied_head) parts.whole("lm_head.weight", "head.weight");
  return parts.finish();
}

std::vector<TensorPart> llama_parts(const ModelConfig& model, Parts parts) {
  const int64_t queries = model.heads * model.head_size(), keys = model.kv_heads * model.head_size(),
                hidden = model.mlp_width;
  parts.whole("model.embed_tokens.weight", kEmbedding);
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string theirs = fmt::format("model.layers.{}.", layer), ours = fmt::format("blocks.{}.", layer);
    // A linear layer's weight and, where the model has one, its bias: rows [first, first + count) of ours.
    const auto linear = [&](const std::string& their, const std::string& our, int64_t first, int64_t count) {
      parts.rows(theirs + their + ".weight", ours + our + ".weight", first, count);
      if (parts.has(ours + our + ".bias")) parts.rows(theirs + their + ".bias", ours + our + ".bias", first, count);
    };
    parts.whole(theirs + "input_layernorm.weight", ours + "norm1.weight");
    linear("self_attn.q_proj", "attention.qkv", 0, queries);
    linear("self_attn.k_proj", "attention.qkv", queries, keys);
    linear("self_attn.v_proj", "attention.qkv", queries + keys, keys);
    linear("self_attn.o_proj", "attention.output", 0, model.width);
    if (model.qk_norm) {
      parts.whole(theirs + "self_attn.q_norm.weight", ours + "attention.q_norm.weight");
      parts.whole(theirs + "self_attn.k_norm.weight", ours + "attention.k_norm.weight");
    }
    parts.whole(theirs + "post_attention_layernorm.weight", ours + "norm2.weight");
    linear("mlp.gate_proj", "mlp.up", 0, hidden);
    linear("mlp.up_proj", "mlp.up", hidden, hidden);
    linear("mlp.down_proj", "mlp.down", 0, model.width);
  }
  parts.whole("model.norm.weight", "final_norm.weight");
  if (!model.tied_head) parts.whole("lm_head.weight", "head.weight");
  return parts.finish();
}

std::vector<TensorPart> opt_parts(const ModelConfig& model, Parts parts) {
  constexpr int64_t kRowsBefore = 2;  // of the table of positions: never used, a remnant of its first implementation
  const std::string top = "model.decoder.";
  parts.whole(top + "embed_tokens.weight", kEmbedding);
  parts.some(top + "embed_positions.weight", "embedding.position.weight", 0, model.context, kRowsBefore,
             model.context + kRowsBefore);
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string theirs = fmt::format("{}layers.{}.", top, layer), ours = fmt::format("blocks.{}.", layer);
    const auto both = [&](const std::string& their, const std::string& our, int64_t first, int64_t count) {
      for (const char* part : {".weight", ".bias"})
        if (parts.has(ours + our + part)) parts.rows(theirs + their + part, ours + our + part, first, count);
    };
    const int64_t C = model.width;
    both("self_attn_layer_norm", "norm1", 0, C);
    both("self_attn.q_proj", "attention.qkv", 0, C);
    both("self_attn.k_proj", "attention.qkv", C, C);
    both("self_attn.v_proj", "attention.qkv", 2 * C, C);
    both("self_attn.out_proj", "attention.output", 0, C);
    both("final_layer_norm", "norm2", 0, C);
    both("fc1", "mlp.up", 0, model.mlp_width);
    both("fc2", "mlp.down", 0, C);
  }
  for (const char* part : {".weight", ".bias"})
    parts.whole(top + "final_layer_norm" + part, std::string("final_norm") + part);
  if (!model.tied_head) parts.whole("lm_head.weight", "head.weight");
  return parts.finish();
}

// Of head h the fused tensor has the D rows of the query, then those of key and value. The first `turned` features of a
// query or key turn in pairs (i, i + turned/2), ours in pairs (i, i + D/2): scores stay what they are when the features
// of both are put in another order.
void neox_heads(Parts& parts, const ModelConfig& model, const std::string& theirs, const std::string& ours) {
  const int64_t H = model.heads, D = model.head_size(), pairs = model.turned_features() / 2, rest = D / 2 - pairs;
  for (int64_t h = 0; h < H; ++h) {
    for (int64_t which = 0; which < 2; ++which) {  // query, key
      const int64_t to = (which * H + h) * D, from = (3 * h + which) * D;
      const auto rows = [&](int64_t first, int64_t stored, int64_t count) {
        if (count > 0) parts.some(theirs, ours, to + first, count, from + stored, 3 * H * D);
      };
      rows(0, 0, pairs);
      rows(pairs, 2 * pairs, rest);
      rows(D / 2, pairs, pairs);
      rows(D / 2 + pairs, 2 * pairs + rest, rest);
    }
    parts.some(theirs, ours, (2 * H + h) * D, D, (3 * h + 2) * D, 3 * H * D);
  }
}

std::vector<TensorPart> neox_parts(const ModelConfig& model, Parts parts) {
  const std::string top = "gpt_neox.";
  parts.whole(top + "embed_in.weight", kEmbedding);
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string theirs = fmt::format("{}layers.{}.", top, layer), ours = fmt::format("blocks.{}.", layer);
    for (const std::string part : {".weight", ".bias"}) {
      const auto whole = [&](const std::string& their, const std::string& our) {
        if (parts.has(ours + our + part)) parts.whole(theirs + their + part, ours + our + part);
      };
      whole("input_layernorm", "norm1");
      if (const std::string qkv = ours + "attention.qkv" + part; parts.has(qkv))
        neox_heads(parts, model, theirs + "attention.query_key_value" + part, qkv);
      whole("attention.dense", "attention.output");
      whole("post_attention_layernorm", "norm2");
      whole("mlp.dense_h_to_4h", "mlp.up");
      whole("mlp.dense_4h_to_h", "mlp.down");
    }
  }
  for (const char* part : {".weight", ".bias"})
    parts.whole(top + "final_layer_norm" + part, std::string("final_norm") + part);
  if (!model.tied_head) parts.whole(head_name(Architecture::kGptNeoX), "head.weight");
  return parts.finish();
}

// norm1 of a block is that of what came before it, of the embedding or the block before; the table of segments has
// `segments` rows, of which every token has the first.
std::vector<TensorPart> bert_parts(const ModelConfig& model, Parts parts, int64_t segments) {
  const auto both = [&](const std::string& theirs, const std::string& ours, int64_t first, int64_t count) {
    for (const char* part : {".weight", ".bias"}) parts.rows(theirs + part, ours + part, first, count);
  };
  const int64_t C = model.width;
  const auto norm_before = [&](int64_t layer) {
    return layer == model.layers ? std::string("final_norm") : fmt::format("blocks.{}.norm1", layer);
  };
  parts.whole("bert.embeddings.word_embeddings.weight", kEmbedding);
  parts.whole("bert.embeddings.position_embeddings.weight", "embedding.position.weight");
  parts.some("bert.embeddings.token_type_embeddings.weight", "embedding.segment.weight", 0, 1, 0, segments);
  both("bert.embeddings.LayerNorm", norm_before(0), 0, C);
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string theirs = fmt::format("bert.encoder.layer.{}.", layer), ours = fmt::format("blocks.{}.", layer);
    both(theirs + "attention.self.query", ours + "attention.qkv", 0, C);
    both(theirs + "attention.self.key", ours + "attention.qkv", C, C);
    both(theirs + "attention.self.value", ours + "attention.qkv", 2 * C, C);
    both(theirs + "attention.output.dense", ours + "attention.output", 0, C);
    both(theirs + "attention.output.LayerNorm", ours + "norm2", 0, C);
    both(theirs + "intermediate.dense", ours + "mlp.up", 0, model.mlp_width);
    both(theirs + "output.dense", ours + "mlp.down", 0, C);
    both(theirs + "output.LayerNorm", norm_before(layer + 1), 0, C);
  }
  both("cls.predictions.transform.dense", "head.transform", 0, C);
  both("cls.predictions.transform.LayerNorm", "head.norm", 0, C);
  parts.whole("cls.predictions.bias", "head.bias");
  return parts.finish();
}

std::vector<TensorPart> sluice_parts(const std::vector<ParamSpec>& parameters) {
  Parts parts(parameters);
  for (const ParamSpec& spec : parameters) parts.whole(spec.name, spec.name);
  return parts.finish();
}

}  // namespace

Shape TensorPart::shape() const {
  const int64_t stored = stored_rows > 0 ? stored_rows : rows;
  if (columns == 0) return {stored};
  return transposed ? Shape{columns, stored} : Shape{stored, columns};
}

void transpose(const float* in, int64_t rows, int64_t columns, float* out) {
  constexpr int64_t kBlock = 64;  // in both directions, so that what is written stays in the cache
  for (int64_t r0 = 0; r0 < rows; r0 += kBlock)
    for (int64_t c0 = 0; c0 < columns; c0 += kBlock)
      for (int64_t r = r0; r < std::min(r0 + kBlock, rows); ++r)
        for (int64_t c = c0; c < std::min(c0 + kBlock, columns); ++c) out[c * rows + r] = in[r * columns + c];
}

StoredModel stored_model(const ModelConfig& model) {
  const auto backend = make_cpu_backend();
  const Transformer declared(*backend, model, {.training = false, .allocate = false});
  StoredModel out{declared.params().specs(), declared.params().count()};
  for (const MovingAverages::Average& average : declared.averages().list())
    out.tensors.push_back({average.name, average.shape, Init::constant(average.initial), DecayGroup::kVector, {}});
  return out;
}

std::vector<TensorPart> tensor_parts(Architecture architecture, const ModelConfig& model,
                                     const std::vector<ParamSpec>& tensors, int64_t segments) {
  switch (architecture) {
    case Architecture::kGpt2: return gpt2_parts(model, Parts(tensors));
    case Architecture::kLlama:
    case Architecture::kQwen2:
    case Architecture::kQwen3: return llama_parts(model, Parts(tensors));
    case Architecture::kOpt: return opt_parts(model, Parts(tensors));
    case Architecture::kGptNeoX: return neox_parts(model, Parts(tensors));
    case Architecture::kBert: return bert_parts(model, Parts(tensors), segments);
    case Architecture::kSluice: return sluice_parts(tensors);
  }
  return {};
}

const char* name_prefix(Architecture architecture) {
  switch (architecture) {
    case Architecture::kGpt2: return "transformer.";
    case Architecture::kLlama:
    case Architecture::kQwen2:
    case Architecture::kQwen3:
    case Architecture::kOpt: return "model.";
    case Architecture::kGptNeoX: return "gpt_neox.";
    case Architecture::kBert: return "bert.";
    case Architecture::kSluice: return "";
  }
  return "";
}

const char* head_name(Architecture architecture) {
  if (architecture == Architecture::kBert) return "cls.predictions.decoder.weight";
  return architecture == Architecture::kSluice ? "head.weight" : "lm_head.weight";  // older GPT-NeoX: embed_out.weight
}

bool is_ignored(Architecture architecture, const std::string& name) {
  if (architecture == Architecture::kSluice || architecture == Architecture::kOpt) return false;
  // The bias is the head's once more; the rest is for tasks that predict no token.
  if (architecture == Architecture::kBert)
    return name == "cls.predictions.decoder.bias" || name.ends_with("embeddings.position_ids") ||
           name.starts_with("bert.pooler.") || name.starts_with("cls.seq_relationship.");
  if (name.ends_with("rotary_emb.inv_freq")) return architecture != Architecture::kGpt2;
  const std::string attention = architecture == Architecture::kGpt2 ? ".attn" : ".attention";
  const bool has_masks = architecture == Architecture::kGpt2 || architecture == Architecture::kGptNeoX;
  return has_masks && (name.ends_with(attention + ".bias") || name.ends_with(attention + ".masked_bias"));
}

}  // namespace sluice
