// Sequences of the task: a token takes one random word, looked up in the cumulative table of the token before it.
#include "data/sources/bigram_backcopy.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <xxhash.h>

#include "base/error.h"
#include "data/sources/generated.h"
#include "data/tokenizers/token_text.h"

namespace sluice {

namespace {

double entropy(std::span<const double> distribution) {
  double nats = 0;
  for (const double p : distribution) nats -= p > 0 ? p * std::log(p) : 0;
  return nats;
}

}  // namespace

BigramBackcopy::BigramBackcopy(BigramStatistics statistics, int64_t triggers, Split split, int64_t context,
                               uint64_t seed)
    : DataSource(context), statistics_(std::move(statistics)), split_(split), seed_(seed) {
  const int64_t n = characters();
  if (triggers >= n) {
    throw UserError("data.triggers is {}, but {} has only {} distinct characters and at least one must be no trigger",
                    triggers, statistics_.source, n);
  }
  choose_triggers(triggers);

  std::vector<uint64_t> without_triggers = statistics_.unigram;
  for (const int32_t trigger : triggers_) without_triggers[size_t(trigger)] = 0;
  for (int64_t a = 0; a < n; ++a) add_row(bigram_row(a));
  add_row(without_triggers);
  propagate();
}

// Counts of the characters after `character`. Only the text's last character can have none; it is then followed by
// any character, at the unigram frequencies.
std::span<const uint64_t> BigramBackcopy::bigram_row(int64_t character) const {
  const size_t n = size_t(characters());
  const auto row = std::span(statistics_.bigram).subspan(size_t(character) * n, n);
  const bool dead_end = std::all_of(row.begin(), row.end(), [](uint64_t count) { return count == 0; });
  return dead_end ? std::span<const uint64_t>(statistics_.unigram) : row;
}

void BigramBackcopy::choose_triggers(int64_t count) {
  std::vector<int32_t> by_frequency(statistics_.unigram.size());
  std::iota(by_frequency.begin(), by_frequency.end(), 0);
  std::stable_sort(by_frequency.begin(), by_frequency.end(), [this](int32_t a, int32_t b) {
    return statistics_.unigram[size_t(a)] > statistics_.unigram[size_t(b)];
  });
  triggers_.assign(by_frequency.begin(), by_frequency.begin() + count);
  token_is_trigger_.assign(size_t(vocab_size_needed()), false);
  for (const int32_t trigger : triggers_) token_is_trigger_[size_t(trigger)] = true;
}

void BigramBackcopy::add_row(std::span<const uint64_t> weights) {
  const double total = double(std::accumulate(weights.begin(), weights.end(), uint64_t{0}));
  const size_t first = distribution_.size();
  distribution_.resize(first + size_t(vocab_size_needed()));
  Row row;
  uint64_t sum = 0;
  for (size_t b = 0; b < weights.size(); ++b) {
    if (weights[b] == 0) continue;
    distribution_[first + b] = double(weights[b]) / total;
    if (sum > 0) row.upper.push_back(uint32_t(double(sum) / total * 0x1p32));
    row.successor.push_back(int32_t(b));
    sum += weights[b];
  }
  rows_.push_back(std::move(row));
}

int32_t BigramBackcopy::Row::draw(uint32_t word) const {
  return successor[size_t(std::upper_bound(upper.begin(), upper.end(), word) - upper.begin())];
}

void BigramBackcopy::fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const {
  const auto start = [this] {
    return [this, last = int32_t{0}, before = int32_t{0}](int64_t index, uint32_t word) mutable {
      const int32_t token = index == 0 ? bos() : is_trigger(last) ? before : rows_[size_t(last)].draw(word);
      before = last;
      last = token;
      return token;
    };
  };
  fill_generated(split_, seed_, context(), first_sequence, count, inputs, targets, start);
}

std::span<const double> BigramBackcopy::next_distribution(int32_t token) const {
  check(token >= 0 && token <= bos(), "next_distribution of a token that the task never generates");
  const size_t vocab = size_t(vocab_size_needed());
  return std::span(distribution_).subspan(size_t(token) * vocab, vocab);
}

// plain[a] = P(s_i = a) for non-triggers a; copying[a] = P(s_i is a trigger and s_{i-1} = a), from which s_{i+1} = a.
void BigramBackcopy::propagate() {
  const int64_t n = characters();
  std::vector<double> row_entropy(size_t(n + 1));
  for (int64_t a = 0; a <= n; ++a) row_entropy[size_t(a)] = entropy(next_distribution(int32_t(a)));

  std::vector<double> plain(size_t(n + 1)), copying(size_t(n + 1));
  plain[size_t(n)] = 1;  // BOS at position 0
  double risk = 0, plain_positions = 0, trigger_positions = 0;
  for (int64_t position = 0; position < context(); ++position) {
    trigger_positions += std::accumulate(copying.begin(), copying.end(), 0.0);
    std::vector<double> next_plain = copying, next_copying(size_t(n + 1));
    for (size_t a = 0; a < plain.size(); ++a) {
      if (plain[a] == 0) continue;
      risk += plain[a] * row_entropy[a];
      plain_positions += plain[a];
      const auto next = next_distribution(int32_t(a));
      for (int32_t b = 0; b < n; ++b) {
        (is_trigger(b) ? next_copying[a] : next_plain[size_t(b)]) += plain[a] * next[size_t(b)];
      }
    }
    plain.swap(next_plain);
    copying.swap(next_copying);
  }
  best_bigram_risk_ = risk / plain_positions;
  trigger_share_ = trigger_positions / double(context());
}

std::string BigramBackcopy::describe() const {
  std::string names;
  for (const int32_t trigger : triggers_) names += ' ' + token_text(trigger);
  return fmt::format("bigram_backcopy: {} tokens from {}, triggers{}, {} split", vocab_size_needed(),
                     statistics_.source, names.empty() ? " none" : names, split_name(split_));
}

std::string BigramBackcopy::identity() const {
  XXH64_hash_t hash = XXH64(statistics_.characters.data(), statistics_.characters.size(), 0);
  for (const auto* counts : {&statistics_.unigram, &statistics_.bigram}) {
    hash = XXH64(counts->data(), counts->size() * sizeof(uint64_t), hash);
  }
  return fmt::format("bigram_backcopy:{}:{:016x}", triggers_.size(), hash);
}

std::string BigramBackcopy::token_text(int32_t token) const {
  if (token == bos()) return "BOS";
  if (token < 0 || token > bos()) return std::to_string(token);
  return visible_text(std::string_view(statistics_.characters).substr(size_t(token), 1));
}

}  // namespace sluice
