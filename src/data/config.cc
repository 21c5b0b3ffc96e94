// The fields of "data", and one branch per type.
#include "data/config.h"

#include "base/error.h"
#include "data/bigram_backcopy.h"
#include "data/random_tokens.h"
#include "data/token_shards.h"

namespace sluice {

namespace {

std::unique_ptr<DataSource> make_bigram_backcopy(const DataConfig& config, Split split, int64_t context,
                                                 int64_t vocab_size, uint64_t seed) {
  const bool built_in = config.statistics.empty();
  auto source = std::make_unique<BigramBackcopy>(
      built_in ? tiny_shakespeare_statistics() : count_bigrams_of_file(config.statistics), config.triggers, split,
      context, seed);
  const int64_t needed = source->vocab_size_needed();
  if (vocab_size < needed) {
    throw UserError("{} has {} tokens (its characters, BOS and a delimiter), but model.vocab_size is {}; set it to {}",
                    built_in ? "data.type bigram_backcopy" : "the text of data.statistics", needed, vocab_size, needed);
  }
  return source;
}

}  // namespace

void DataConfig::describe(Fields& fields) {
  fields
      .add("type", type,
           "where sequences come from: bigram_backcopy (the Bigram-Backcopy task, arXiv 2410.13835), tokens (shards "
           "of token ids on disk) or random (uniform token ids, for benchmarks)")
      .one_of({"bigram_backcopy", "tokens", "random"});
  fields.add("triggers", triggers, "how many of the most frequent characters trigger a copy")
      .range(0, kMaxTextCharacters - 1)
      .when("type", {"bigram_backcopy"});
  fields
      .add("statistics", statistics,
           "a text file whose character bigrams are counted; empty: the built-in counts of tiny-shakespeare")
      .when("type", {"bigram_backcopy"});
  fields
      .add("train_shards", train_shards,
           "files or globs of uint16 token shards (llm.c's format) to train on; windows are shuffled each epoch")
      .when("type", {"tokens"});
  fields.add("validation_shards", validation_shards, "files or globs of token shards to evaluate on, read in order")
      .when("type", {"tokens"});
}

std::unique_ptr<DataSource> make_source(const DataConfig& config, Split split, int64_t context, int64_t vocab_size,
                                        uint64_t seed) {
  if (config.type == "random") return std::make_unique<RandomTokens>(split, context, vocab_size, seed);
  if (config.type == "tokens") {
    const bool train = split == Split::kTrain;
    return std::make_unique<TokenShards>(train ? config.train_shards : config.validation_shards,
                                         train ? "data.train_shards" : "data.validation_shards", split, context,
                                         vocab_size, seed);
  }
  check_eq(config.type, std::string("bigram_backcopy"), "data.type");
  return make_bigram_backcopy(config, split, context, vocab_size, seed);
}

}  // namespace sluice
