#include "model/config/config.h"

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "kernels/types/attention_types.h"

namespace sluice {

void RopeScalingConfig::describe(Fields& f) {
  f.add("type", type,
        "none; linear: every angle is divided by factor; llama3: as LLaMA 3.1, the slow angles are, the fast ones are "
        "not, "
        "with a transition between");
  f.add("factor", factor, "what slow angles are divided by").range(1, 1e6).when("type", {"linear", "llama3"});
  f.add("low_freq_factor", low_freq_factor,
        "a pair that turns fewer times than this in original_context positions is slow")
      .range(1e-6, 1e6)
      .when("type", {"llama3"});
  f.add("high_freq_factor", high_freq_factor, "one that turns more times than this is fast; above low_freq_factor")
      .range(1e-6, 1e6)
      .when("type", {"llama3"});
  f.add("original_context", original_context, "tokens in a sequence of the first training")
      .range(1, 1 << 24)
      .when("type", {"llama3"});
}

double RopeScalingConfig::scaled(double speed) const {
  if (type == RopeScaling::kLinear) return speed / factor;
  if (type != RopeScaling::kLlama3) return speed;
  const double turns = double(original_context) * speed / (2 * std::numbers::pi);
  if (turns < low_freq_factor) return speed / factor;
  if (turns > high_freq_factor) return speed;
  const double fast = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
  return (1 - fast) * speed / factor + fast * speed;
}

void ModelConfig::describe(Fields& f) {
  f.add("vocab_size", vocab_size, "tokens in the vocabulary").range(2, 1 << 24);
  f.add("context", context, "tokens in a sequence").range(1, 1 << 20);
  f.add("layers", layers, "transformer blocks").range(1, 1000);
  f.add("heads", heads, "attention heads; must divide the width where head_size is 0").range(1, 1024);
  f.add("kv_heads", kv_heads, "key/value heads, each shared by heads / kv_heads query heads; 0: as many as heads")
      .range(0, 1024);
  f.add("width", width, "size of the residual stream").range(1, 1 << 16);
  f.add("head_size", head_features, "features of a head's query and key, and of its value; 0: width / heads")
      .range(0, kMaxHeadSize);
  f.add("value_head_size", value_features,
        "features of a head's value, where they are not as many as the key's; the output projection reads heads times "
        "so many; 0: head_size")
      .range(0, kMaxHeadSize)
      .not_written_as(0);
  f.add("mlp_width", mlp_width,
        "hidden size of the MLP; 0: four times the width, or for swiglu 8/3 of it, rounded up to a multiple of 64")
      .range(0, 1 << 18);
  f.add("norm", norm,
        "normalisation before attention, MLP and head; rmsnorm (arXiv 1910.07467) does not centre and has no bias");
  f.add("norm_epsilon", norm_epsilon, "added to the variance, or to the mean square").range(1e-30, 1);
  f.add("norm_gate", norm_gate,
        "above 0: every norm's result y is multiplied by sigmoid(Wu silu(Wd y)), with matrices of so many rows and "
        "columns between (GatedNorm, arXiv 2601.22966)")
      .range(0, 1 << 16)
      .not_written_as(0);
  f.add("mlp", mlp,
        "the MLP's activation; gelu is GPT-2's tanh form, gelu_erf the exact one (arXiv 1606.08415), swiglu is "
        "silu(gate) times up (arXiv 2002.05202), relu_squared relu's square (arXiv 2109.08668)");
  describe_position(f);
  f.add("qk_norm", qk_norm,
        "every query and key head is divided by the root of its mean square, with one learned gain per feature for all "
        "queries and one for all keys (before rope)");
  f.add("causal", causal,
        "rows see the tokens up to their own; false: of their whole sequence, as in masked language models (BERT, "
        "arXiv 1810.04805), which data.masking trains")
      .not_written_as(true);
  f.add(
      "parallel_residual", parallel_residual,
      "attention and MLP both read the block's input, each through its own norm, and both are added to it (GPT-NeoX)");
  f.add("bias", bias, "biases in the linear layers (layernorm always has one, rmsnorm and the output head never)");
  f.add("attention_bias", attention_bias,
        "biases of attention's linear layers: model (what bias says), none, qkv (queries, keys and values only, as "
        "Qwen2) or all");
  describe_head(f);
  describe_rows(f);
  dropout.add_to(f);
  f.add_group("residual", residual, "how attention and MLP layers are joined; a bare string is its type")
      .not_written_as(Json{{"type", ResidualConfig().type}});
  f.add_group_or_list(
      "attention", attention.all, attention.runs,
      "the attention part: a preset's name, a preset with changes, or the parts; or a list of these, which are "
      "laid over the layers one after the other, from the first again where they end before the last layer",
      expand_attention);
}

// The output head, and the values that a model begins with.
void ModelConfig::describe_head(Fields& f) {
  f.add("tied_head", tied_head, "the output head shares the token embedding's weights");
  f.add(
       "head_transform", head_transform,
       "before the output head's matrix a linear layer of the model's width, the MLP's activation and a norm: the head "
       "of masked language models (BERT, arXiv 1810.04805)")
      .not_written_as(false);
  f.add("head_bias", head_bias, "the output head has a bias for every token of the vocabulary (BERT)")
      .not_written_as(false);
  f.add("init", init,
        "initial values: pytorch (embeddings N(0,1), linears uniform +-1/sqrt(fan_in)), gpt2 (N(0, init_std), "
        "projections into the residual stream divided by sqrt(2 layers)) or bert (N(0, init_std) all)");
  f.add("init_std", init_std, "standard deviation of the gpt2 and the bert init").above(0).below(10);
}

// What is embedded beside tokens and positions.
void ModelConfig::describe_rows(Fields& f) {
  f.add("registers", registers,
        "learned rows that stand before every sequence's tokens, seen as these are and predicted by none (register "
        "tokens, arXiv 2309.16588); not with documents that are masked")
      .range(0, 1024)
      .not_written_as(0);
  f.add("segment_embedding", segment_embedding,
        "one learned row is added to every token's embedding: what BERT's token types come to where all tokens are of "
        "one segment; not with registers")
      .not_written_as(false);
}

void ModelConfig::describe_position(Fields& f) {
  f.add(
      "position", position,
      "position information: a learned embedding, rope (queries and keys are turned by an angle that grows with their "
      "position, arXiv 2104.09864) or none");
  f.add("rope_theta", rope_theta, "pair i of a head's D features turns by rope_theta^(-2i/D) a position")
      .range(1, 1e12)
      .when("position", {"rope"});
  f.add("rotary_features", rotary_features,
        "features of a head that rope turns, an even number, which stands for D in rope_theta's exponent; 0: all. They "
        "are the first half of these in each half of the head")
      .range(0, kMaxHeadSize)
      .when("position", {"rope"});
  f.add_group("rope_scaling", rope_scaling, "how rope's angles are stretched for a longer context")
      .when("position", {"rope"});
}

void ModelConfig::resolve() {
  if (kv_heads == 0) kv_heads = heads;
  if (mlp_width == 0) mlp_width = mlp == MlpKind::kSwiglu ? (8 * width + 3 * 64 - 1) / (3 * 64) * 64 : 4 * width;
  if (head_features == 0 && width % heads != 0)
    throw UserError(
        "model.heads = {} does not divide model.width = {}: every head needs the same size (or a "
        "model.head_size of its own)",
        heads, width);
  if (heads % kv_heads != 0) throw UserError("model.kv_heads = {} does not divide model.heads = {}", kv_heads, heads);
  if (head_size() > kMaxHeadSize)
    throw UserError("model.width / model.heads = {} / {} = {}: a head may have at most {} features (raise model.heads)",
                    width, heads, head_size(), kMaxHeadSize);
  if (head_transform && mlp == MlpKind::kSwiglu)
    throw UserError(
        "model.head_transform takes the MLP's activation, and model.mlp = \"swiglu\" has none by itself: set another, "
        "such as \"gelu_erf\"");
  if (segment_embedding && registers > 0)
    throw UserError(
        "model.segment_embedding is added to tokens, and model.registers = {} are none: set one to its default",
        registers);
  if (norm_gate > width)
    throw UserError("model.norm_gate = {} is more than model.width = {}: a low rank has at most as many rows as that",
                    norm_gate, width);
  if (position == Position::kRope) resolve_rope();
  attention.resolve(*this);
  residual.resolve(*this);
  dropout.resolve(*this);
}

void ModelConfig::resolve_rope() const {
  if (head_size() % 2 != 0) {
    const std::string size =
        head_features > 0 ? "model.head_size" : fmt::format("model.width / model.heads = {} / {}", width, heads);
    throw UserError(
        "{} = {}: model.position = \"rope\" turns pairs of features and needs an even number of them in a head", size,
        head_size());
  }
  if (rotary_features % 2 != 0 || rotary_features > head_size())
    throw UserError("model.rotary_features = {}: it must be an even number of at most the {} features of a head",
                    rotary_features, head_size());
  if (rope_scaling.type == RopeScaling::kLlama3 && !(rope_scaling.low_freq_factor < rope_scaling.high_freq_factor))
    throw UserError("model.rope_scaling.high_freq_factor = {} must be above low_freq_factor = {}",
                    rope_scaling.high_freq_factor, rope_scaling.low_freq_factor);
}

double ModelConfig::rope_speed(int64_t pair) const {
  const int64_t turned = turned_features();
  if (2 * pair >= turned) return 0;
  return rope_scaling.scaled(std::pow(rope_theta, -2.0 * double(pair) / double(turned)));
}

}  // namespace sluice
