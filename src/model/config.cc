#include "model/config.h"

#include "base/error.h"

namespace sluice {

void ModelConfig::describe(Fields& f) {
  f.add("vocab_size", vocab_size, "tokens in the vocabulary").range(2, 1 << 24);
  f.add("context", context, "tokens in a sequence").range(1, 1 << 20);
  f.add("layers", layers, "transformer blocks").range(1, 1000);
  f.add("heads", heads, "attention heads; must divide the width").range(1, 1024);
  f.add("kv_heads", kv_heads, "key/value heads, each shared by heads / kv_heads query heads; 0: as many as heads")
      .range(0, 1024);
  f.add("width", width, "size of the residual stream").range(1, 1 << 16);
  f.add("mlp_width", mlp_width,
        "hidden size of the MLP; 0: four times the width, or for swiglu 8/3 of it, rounded up to a multiple of 64")
      .range(0, 1 << 18);
  f.add("norm", norm,
        "normalisation before attention, MLP and head; rmsnorm (arXiv 1910.07467) does not centre and has no bias")
      .one_of({"layernorm", "rmsnorm"});
  f.add("norm_epsilon", norm_epsilon, "added to the variance, or to the mean square").range(1e-30, 1);
  f.add("mlp", mlp,
        "the MLP's activation; gelu is GPT-2's tanh form, swiglu is silu(gate) times up (arXiv 2002.05202), relu_squared "
        "relu's square (arXiv 2109.08668)")
      .one_of({"relu", "gelu", "relu_squared", "swiglu"});
  f.add("position", position,
        "position information: a learned embedding, rope (queries and keys are turned by an angle that grows with their "
        "position, arXiv 2104.09864) or none")
      .one_of({"learned", "rope", "none"});
  f.add("rope_theta", rope_theta, "pair i of a head's D features turns by rope_theta^(-2i/D) a position")
      .range(1, 1e12)
      .when("position", {"rope"});
  f.add("qk_norm", qk_norm,
        "every query and key head is divided by the root of its mean square, with one learned gain per feature for all "
        "queries and one for all keys (before rope)");
  f.add("bias", bias, "biases in the linear layers (layernorm always has one, rmsnorm and the output head never)");
  f.add("tied_head", tied_head, "the output head shares the token embedding's weights");
  f.add("init", init,
        "initial values: pytorch (embeddings N(0,1), linears uniform +-1/sqrt(fan_in)) or gpt2 (N(0, init_std), "
        "projections into the residual stream divided by sqrt(2 layers))")
      .one_of({"pytorch", "gpt2"});
  f.add("init_std", init_std, "standard deviation of the gpt2 init").above(0).below(10);
  f.add_group("attention", attention, "the attention part: a preset's name, a preset with changes, or the parts",
              expand_attention);
}

void ModelConfig::resolve() {
  if (kv_heads == 0) kv_heads = heads;
  if (mlp_width == 0) mlp_width = mlp == "swiglu" ? (8 * width + 3 * 64 - 1) / (3 * 64) * 64 : 4 * width;
  if (width % heads != 0)
    throw UserError("model.heads = {} does not divide model.width = {}: every head needs the same size", heads, width);
  if (heads % kv_heads != 0)
    throw UserError("model.kv_heads = {} does not divide model.heads = {}", kv_heads, heads);
  if (head_size() > kMaxHeadSize)
    throw UserError("model.width / model.heads = {} / {} = {}: a head may have at most {} features (raise model.heads)",
                    width, heads, head_size(), kMaxHeadSize);
  if (position == "rope" && head_size() % 2 != 0)
    throw UserError("model.width / model.heads = {} / {} = {}: model.position = \"rope\" turns pairs of features and needs "
                    "an even number of them in a head", width, heads, head_size());
  attention.resolve(heads, kv_heads);
}

}  // namespace sluice
