// Windows over documents for perplexity, and endings compared for HellaSwag (text_evaluation.h).
#include "measure/text_evaluation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/error.h"

namespace sluice {

double PerplexityResult::per_token() const { return std::exp(loss()); }
double PerplexityResult::per_byte() const { return std::exp(nats / double(bytes)); }
double PerplexityResult::bits_per_byte() const { return nats / double(bytes) / std::numbers::ln2; }

PerplexityMeter::PerplexityMeter(Transformer& model, const Tokenizer& tokenizer, int64_t stride, int64_t first_token)
    : model_(model), tokenizer_(tokenizer), stride_(stride), first_token_(first_token) {
  check(stride >= 1 && stride <= model.config().context, "the stride");
}

void PerplexityMeter::add(const std::string& document) {
  const int32_t mark = tokenizer_.end_of_text();
  const bool opened = first_token_ >= 0, marked = mark >= 0 && mark != first_token_;
  std::vector<int32_t> tokens;
  if (marked) tokens.push_back(mark);
  tokenizer_.encode(document, tokens);
  // Tokens of a window, the first one apart; the document's first token that is predicted.
  const int64_t count = int64_t(tokens.size()), room = model_.config().context + (opened ? 0 : 1);
  const int64_t predicted = opened && !marked ? 0 : 1;
  if (count <= predicted) return;
  ++result_.documents;
  result_.unknown += std::count(tokens.begin(), tokens.end(), tokenizer_.unknown());
  result_.tokens += count - predicted;
  result_.bytes += int64_t(document.size());
  if (!marked && predicted > 0) result_.bytes -= int64_t(tokenizer_.token_bytes(tokens[0]).size());
  for (int64_t first = predicted; first < count;) {
    const int64_t begin = first == predicted ? 0 : first - (room - stride_);
    const int64_t end = std::min(begin + room, count);
    ScoredTokens window{{tokens.begin() + begin, tokens.begin() + end}, size_t(first - begin)};
    if (opened) {
      window.tokens.insert(window.tokens.begin(), int32_t(first_token_));
      ++window.first;
    }
    waiting_.push_back(std::move(window));
    first = end;
    if (int64_t(waiting_.size()) >= 16 * model_.max_batch()) score();
  }
}

void PerplexityMeter::score() {
  for (const double sum : log_likelihoods(model_, waiting_)) {
    if (!std::isfinite(sum)) throw RunError("the model's loss on the text is not finite, so it has no perplexity");
    result_.nats -= sum;
  }
  waiting_.clear();
}

PerplexityResult PerplexityMeter::finish() {
  score();
  return result_;
}

// ---- HellaSwag ------------------------------------------------------------------------------------------------------

namespace {

struct Ending {
  ScoredTokens text;
  double bytes = 0;
};

Ending encode_ending(const Tokenizer& tokenizer, const HellaSwagExample& example, const std::string& ending,
                     int64_t context, int64_t first_token) {
  const size_t opening = first_token >= 0 ? 1 : 0;
  std::vector<int32_t> before, tokens;
  tokenizer.encode(example.context, before);
  if (before.empty() && !opening && tokenizer.end_of_text() >= 0) before.push_back(tokenizer.end_of_text());
  tokenizer.encode(tokenizer.adds_blank() ? ending : " " + ending, tokens);
  if (before.size() + opening == 0 || int64_t(tokens.size()) > context) {
    throw UserError("the ending \"{:.60}\" has {} tokens and {} before it, but model.context is {}", ending,
                    tokens.size(), before.size() + opening, context);
  }
  const size_t kept = std::min(before.size() + opening, size_t(context) + 1 - tokens.size());
  std::vector<int32_t> all(before.end() - int64_t(kept - opening), before.end());
  if (opening) all.insert(all.begin(), int32_t(first_token));
  all.insert(all.end(), tokens.begin(), tokens.end());
  return {{std::move(all), kept}, double(ending.size() + 1)};
}

template <class Value>
bool is_best(const std::vector<Ending>& endings, const std::vector<double>& sums, size_t label, Value&& value) {
  size_t best = 0;
  for (size_t i = 1; i < endings.size(); ++i) {
    if (value(endings[i], sums[i]) > value(endings[best], sums[best])) best = i;
  }
  return best == label;
}

}  // namespace

HellaSwagResult evaluate_hellaswag(Transformer& model, const Tokenizer& tokenizer,
                                   const std::vector<HellaSwagExample>& examples, int64_t first_token,
                                   const std::function<void(int64_t)>& progress) {
  HellaSwagResult result;
  const size_t group = std::max<size_t>(1, size_t(model.max_batch()) * 4);  // of like length they make fuller batches
  for (size_t begin = 0; begin < examples.size(); begin += group) {
    const size_t end = std::min(begin + group, examples.size());
    std::vector<ScoredTokens> texts;
    std::vector<std::vector<Ending>> endings;
    for (size_t i = begin; i < end; ++i) {
      endings.emplace_back();
      for (const std::string& ending : examples[i].endings) {
        endings.back().push_back(encode_ending(tokenizer, examples[i], ending, model.config().context, first_token));
        texts.push_back(endings.back().back().text);
      }
    }
    const std::vector<double> sums = log_likelihoods(model, texts);
    if (!std::all_of(sums.begin(), sums.end(), [](double sum) { return std::isfinite(sum); }))
      throw RunError("the model's loss on an ending of HellaSwag is not finite, so it cannot choose between them");
    size_t next = 0;
    for (size_t i = begin; i < end; ++i) {
      const auto& own = endings[i - begin];
      const std::vector<double> scores(sums.begin() + int64_t(next), sums.begin() + int64_t(next + own.size()));
      next += own.size();
      const size_t label = examples[i].label;
      const auto scored = [](const Ending& ending) { return double(ending.text.tokens.size() - ending.text.first); };
      result.by_sum += is_best(own, scores, label, [](const Ending&, double sum) { return sum; });
      result.by_token += is_best(own, scores, label, [&](const Ending& e, double sum) { return sum / scored(e); });
      result.by_byte += is_best(own, scores, label, [](const Ending& e, double sum) { return sum / e.bytes; });
    }
    result.examples += int64_t(end - begin);
    progress(result.examples);
  }
  return result;
}

}  // namespace sluice
