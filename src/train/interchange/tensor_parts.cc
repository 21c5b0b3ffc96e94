// See tensor_parts.h.
#include "train/interchange/tensor_parts.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "kernels/cpu/cpu_backend.h"
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
  parts.whole("transformer.wte.weight", "embedding.token.weight");
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
  const int64_t queries = model.width, keys = model.kv_heads * model.head_size(), hidden = model.mlp_width;
  parts.whole("model.embed_tokens.weight", "embedding.token.weight");
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string theirs = fmt::format("model.layers.{}.", layer), ours = fmt::format("blocks.{}.", layer);
    // A linear layer's weight and, where the model has them, its bias: rows [first, first + count) of ours.
    const auto linear = [&](const std::string& their, const std::string& our, int64_t first, int64_t count) {
      parts.rows(theirs + their + ".weight", ours + our + ".weight", first, count);
      if (model.bias) parts.rows(theirs + their + ".bias", ours + our + ".bias", first, count);
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

std::vector<TensorPart> sluice_parts(const std::vector<ParamSpec>& parameters) {
  Parts parts(parameters);
  for (const ParamSpec& spec : parameters) parts.whole(spec.name, spec.name);
  return parts.finish();
}

}  // namespace

Shape TensorPart::shape() const {
  if (columns == 0) return {rows};
  return transposed ? Shape{columns, rows} : Shape{rows, columns};
}

void transpose(const float* in, int64_t rows, int64_t columns, float* out) {
  constexpr int64_t kBlock = 64;  // in both directions, so that what is written stays in the cache
  for (int64_t r0 = 0; r0 < rows; r0 += kBlock)
    for (int64_t c0 = 0; c0 < columns; c0 += kBlock)
      for (int64_t r = r0; r < std::min(r0 + kBlock, rows); ++r)
        for (int64_t c = c0; c < std::min(c0 + kBlock, columns); ++c) out[c * rows + r] = in[r * columns + c];
}

std::vector<ParamSpec> parameters_of(const ModelConfig& model) {
  const auto backend = make_cpu_backend();
  return Transformer(*backend, model, {.training = false, .allocate = false}).params().specs();
}

std::vector<TensorPart> tensor_parts(Architecture architecture, const ModelConfig& model,
                                     const std::vector<ParamSpec>& parameters) {
  switch (architecture) {
    case Architecture::kGpt2: return gpt2_parts(model, Parts(parameters));
    case Architecture::kLlama:
    case Architecture::kQwen3: return llama_parts(model, Parts(parameters));
    case Architecture::kSluice: return sluice_parts(parameters);
  }
  return {};
}

const char* name_prefix(Architecture architecture) {
  switch (architecture) {
    case Architecture::kGpt2: return "transformer.";
    case Architecture::kLlama:
    case Architecture::kQwen3: return "model.";
    case Architecture::kSluice: return "";
  }
  return "";
}

bool is_ignored(Architecture architecture, const ModelConfig& model, const std::string& name) {
  if (architecture == Architecture::kSluice) return false;
  if (model.tied_head && name == "lm_head.weight") return true;
  if (architecture == Architecture::kGpt2) return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
  return name.ends_with("rotary_emb.inv_freq");
}

}  // namespace sluice
