#include "model/config/qk_source.h"

#include <algorithm>

#include "base/error.h"
#include "model/config/config.h"

namespace sluice {

void QkSourceConfig::describe(Fields& f) {
  f.add("type", type,
        "what queries and keys are made of: hidden (the layer's input), embedding (the token embedding, behind the "
        "layer's norm), random (a second stream of fixed random rows that runs through the same blocks) or text (one "
        "of the tokens of a fixed text); values are made of the layer's input");
  f.add("seed", seed, "of the random rows, which are distributed as token embeddings begin").when("type", {"random"});
  f.add("tokens", tokens,
        "the text, at least model.context tokens; none: training takes the first of its data, and writes them here")
      .range(0, 1 << 24)
      .when("type", {"text"})
      .filled_by_run();
}

void QkSourceOptions::describe(Fields& attention) {
  attention.add_group("qk_source", qk_source, "where queries and keys come from (arXiv 2510.11602)");
}

std::string QkSourceOptions::text() const {
  switch (qk_source.type) {
    case QkSource::kEmbedding: return "queries and keys of the token embedding";
    case QkSource::kRandom: return "queries and keys of fixed random rows";
    case QkSource::kText: return "queries and keys of a fixed text";
    case QkSource::kHidden: break;
  }
  return "queries and keys of the layer's input";
}

void QkSourceOptions::resolve(const ModelConfig& model, const std::string& path) const {
  if (qk_source.is_stream()) return check_stream(model, path + ".qk_source");
  if (!model.residual.is_plain())
    throw UserError("{}.qk_source = embedding reads it where sums begin: it takes model.residual = add, not {}", path,
                    model.residual.type);
}

// One stream at most. Means over a micro-batch's rows would have its rows among them, and depend on how many sequences
// the micro-batch has.
void QkSourceOptions::check_stream(const ModelConfig& model, const std::string& path) const {
  const std::string name = choice_name(qk_source.type);
  const auto refuse = [&](const std::string& part) {
    throw UserError(
        "{} = {} runs a fixed sequence beside those of the batch, but means are taken over all of them by {}: have one "
        "of the two",
        path, name, part);
  };
  if (model.residual.options().averages_rows()) refuse("model.residual");
  for (const AttentionConfig* layer : model.attention.kinds()) {
    const QkSourceConfig& other = layer->options<QkSourceOptions>().qk_source;
    if (other.is_stream() && !(other == qk_source))
      throw UserError("{} = {} differs from another layer's: a model has one fixed stream", path, name);
    const auto stages = layer->stages();
    const auto found = std::find_if(stages.begin(), stages.end(), [](const auto* one) { return one->averages_rows(); });
    if (found != stages.end()) refuse((*found)->text());
  }
  check_tokens(model, path);
}

void QkSourceOptions::check_tokens(const ModelConfig& model, const std::string& path) const {
  const std::vector<int64_t>& tokens = qk_source.tokens;
  if (tokens.empty()) return;
  if (int64_t(tokens.size()) < model.context)
    throw UserError("{}.tokens are {}, but model.context = {} positions need one each", path, tokens.size(),
                    model.context);
  const int64_t largest = *std::max_element(tokens.begin(), tokens.end());
  if (largest >= model.vocab_size)
    throw UserError("{}.tokens has the token {}, but model.vocab_size is {}", path, largest, model.vocab_size);
}

const QkSourceConfig* fixed_stream_of(const ModelConfig& model) {
  for (const AttentionConfig* layer : model.attention.kinds()) {
    const QkSourceConfig& source = layer->options<QkSourceOptions>().qk_source;
    if (source.is_stream()) return &source;
  }
  return nullptr;
}

}  // namespace sluice
