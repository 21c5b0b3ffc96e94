// How well a model predicts texts: perplexity by token and by byte, and HellaSwag (arXiv 1905.07830).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/config/config.h"
#include "data/text/document_reader.h"
#include "data/tokenizers/tokenizer.h"
#include "measure/hellaswag_file.h"
#include "measure/text_score.h"

namespace sluice {

struct PerplexityResult {
  int64_t documents = 0, tokens = 0, bytes = 0;  // tokens and bytes that were predicted
  double nats = 0;                               // the sum of their losses
  int64_t unknown = 0;                           // tokens that stand for text which is lost (Tokenizer::unknown)

  double loss() const { return nats / double(tokens); }
  double per_token() const;
  double per_byte() const;  // exp(nats / bytes)
  double bits_per_byte() const;
};

// Documents one by one, each behind the tokenizer's end of text, where it has one. A model that was trained with a
// first token in each window (data.first_token) gets it here too, and so one token of text less. A document beyond the
// context is cut into windows that begin `stride` tokens apart; every token is predicted once, from the window's tokens
// before it: with a stride of the context's length windows do not overlap, a smaller one gives each token more of its
// past.
class PerplexityMeter {
 public:
  // 1 <= stride <= context. `first_token`: -1 if windows have none.
  PerplexityMeter(Transformer& model, const Tokenizer& tokenizer, int64_t stride, int64_t first_token = -1);
  void add(const std::string& document);
  PerplexityResult finish();

 private:
  void score();

  Transformer& model_;
  const Tokenizer& tokenizer_;
  const int64_t stride_, first_token_;
  std::vector<ScoredTokens> waiting_;
  PerplexityResult result_;
};

// How many examples have the right ending on top: by the sum of its tokens' log-likelihoods, by their mean over tokens,
// and by their mean over bytes.
struct HellaSwagResult {
  int64_t examples = 0, by_sum = 0, by_token = 0, by_byte = 0;
};

// Context and " " + ending are encoded each for itself, as in llm.c (the blank is left to tokenizers that put one
// before each text); the beginning of a context that is too long is cut off. `first_token` as above. UserError for an
// ending that is longer than the model's context. `progress` gets the examples that are done.
HellaSwagResult evaluate_hellaswag(Transformer& model, const Tokenizer& tokenizer,
                                   const std::vector<HellaSwagExample>& examples, int64_t first_token,
                                   const std::function<void(int64_t)>& progress);

}  // namespace sluice
