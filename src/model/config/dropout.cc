#include "model/config/dropout.h"

#include "base/error.h"
#include "model/config/attention_parts.h"
#include "model/config/config.h"
#include "model/config/qk_source.h"

namespace sluice {

void DropoutConfig::describe(Fields& f) {
  const auto add = [&f](const char* name, double& probability, const char* help) {
    f.add(name, probability, help).range(0, 0.99).not_written_as(0.0);
  };
  add("hidden", hidden,
      "probability that a value is dropped of what attention's and the MLP's output projections put out, before it is "
      "added to the residual stream (resid_pdrop, hidden_dropout_prob)");
  add("attention", attention,
      "of the attention weights, once they are normalised (attn_pdrop, attention_probs_dropout_prob)");
  add("embedding", embedding, "of the sum of token and position embeddings (embd_pdrop)");
}

void DropoutConfig::add_to(Fields& model) {
  model
      .add_group("dropout", *this,
                 "values that are dropped while the model learns, the rest divided by 1 - p (Srivastava et al., 2014); "
                 "not in evaluations, probes, analyses and texts")
      .not_written_as(Json::object());
}

void DropoutConfig::resolve(const ModelConfig& model) const {
  if (any() && fixed_stream_of(model))
    throw UserError(
        "model.dropout does not go with a fixed stream of queries and keys, which is the same in every step");
  if (attention == 0) return;
  for (const AttentionConfig* config : model.attention.kinds())
    if (!config->core_options().drops_weights())
      throw UserError(
          "model.dropout.attention = {} drops attention weights, and the core {} has none that it could drop",
          attention, config->core);
}

}  // namespace sluice
