// The Bigram-Backcopy task of Guo et al. 2024 (arXiv 2410.13835): the smallest task on which attention sinks form.
//
// Tokens: the n characters of a text, n = BOS, n + 1 = a delimiter that is never generated (the published models have
// its row, so the vocabulary keeps it). P(b|a) are the text's bigram frequencies; the k most frequent characters are
// triggers. A sequence is
//   s_0 = BOS;   s_1 ~ the unigram frequencies with the triggers taken out;
//   s_i = s_{i-2} if s_{i-1} is a trigger (the copy), else s_i ~ P(. | s_{i-1}).
// Two triggers never touch, whatever the text: a trigger at i-1 was drawn after a non-trigger at i-2, which s_i copies.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/sources/bigram_statistics.h"
#include "data/sources/source.h"

namespace sluice {

class BigramBackcopy final : public DataSource, public TokenTask {
 public:
  // UserError if every character would be a trigger.
  BigramBackcopy(BigramStatistics statistics, int64_t triggers, Split split, int64_t context, uint64_t seed);

  void fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const override;
  int64_t vocab_size_needed() const override { return characters() + 2; }
  std::string describe() const override;
  std::string identity() const override;
  std::string token_text(int32_t token) const override;

  int32_t bos() const { return int32_t(characters()); }
  const TokenTask* task() const override { return this; }
  bool is_trigger(int32_t token) const override { return token_is_trigger_[size_t(token)]; }
  std::span<const int32_t> triggers() const { return triggers_; }  // most frequent first

  // The distribution that the task draws the next token from, [vocab_size_needed()]: P(.|token), or after BOS the
  // unigram frequencies without triggers. After a trigger the task copies instead; its row is the text's P(.|token).
  // The delimiter has no row.
  std::span<const double> next_distribution(int32_t token) const override;

  // What a perfect model reaches on the non-trigger positions of context() inputs: the entropy of next_distribution
  // in nats, averaged over them. Exact, by propagating the chain's distribution. The best backcopy risk is 0.
  double best_possible_bigram_risk() const { return best_bigram_risk_; }

  // The expected share of the context() input positions that hold a trigger.
  double trigger_share() const { return trigger_share_; }

 private:
  // Cumulative thresholds of one row over its possible successors, in units of 2^-32.
  struct Row {
    std::vector<uint32_t> upper;     // [m - 1]; the last successor takes the rest
    std::vector<int32_t> successor;  // [m]
    int32_t draw(uint32_t word) const;
  };

  int64_t characters() const { return statistics_.size(); }
  std::span<const uint64_t> bigram_row(int64_t character) const;
  void choose_triggers(int64_t count);
  void add_row(std::span<const uint64_t> weights);  // [characters()]
  void propagate();

  BigramStatistics statistics_;
  std::vector<int32_t> triggers_;
  std::vector<uint8_t> token_is_trigger_;  // [vocab]
  std::vector<Row> rows_;                  // [characters + 1], the last is BOS's
  std::vector<double> distribution_;       // [characters + 1, vocab]
  Split split_;
  uint64_t seed_;
  double best_bigram_risk_ = 0, trigger_share_ = 0;
};

}  // namespace sluice
