// The fields of "data", and one branch per type.
#include "data/config.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"
#include "data/sources/bigram_backcopy.h"
#include "data/sources/masked_tokens.h"
#include "data/sources/random_tokens.h"
#include "data/sources/source_mixture.h"
#include "data/sources/token_shards.h"
#include "data/tokenizers/tokenizer.h"

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

Shuffle shuffle_of(const DataConfig& config) {
  return config.shuffle == "documents" ? Shuffle::kDocuments
         : config.shuffle == "none"    ? Shuffle::kNone
                                       : Shuffle::kWindows;
}

std::unique_ptr<DataSource> make_mixture(const DataConfig& config, const TokenShardsOptions& options) {
  if (!config.train_shards.empty()) {
    throw UserError("data.train_shards and data.sources both say what to train on; leave one of them out");
  }
  std::vector<MixturePart> parts;
  for (size_t i = 0; i < config.sources.size(); ++i) {
    const WeightedShards& source = config.sources[i];
    TokenShardsOptions own = options;
    own.key = fmt::format("data.sources[{}].shards", i);
    own.seed = mixture_seed(options.seed, i);
    auto shards = std::make_unique<TokenShards>(source.shards, own);
    parts.push_back({std::move(shards), source.weight, fmt::format("{}", fmt::join(source.shards, ", "))});
  }
  return std::make_unique<SourceMixture>(std::move(parts), "data.sources");
}

std::unique_ptr<DataSource> make_tokens(const DataConfig& config, Split split, TokenShardsOptions options) {
  options.split = split;
  options.shuffle = shuffle_of(config);
  options.mask_documents = config.document_mask;
  options.document_token = config.document_token;
  options.first_token = config.first_token;
  options.plain = plain_tokens(config.shard_format);
  options.verify = config.verify;
  options.tokenizer_key = config.tokenizer_key;
  if (split == Split::kTrain && !config.sources.empty()) return make_mixture(config, options);
  options.key = !config.shards_key.empty() ? config.shards_key
                : split == Split::kTrain   ? "data.train_shards"
                                           : "data.validation_shards";
  return std::make_unique<TokenShards>(split == Split::kTrain ? config.train_shards : config.validation_shards,
                                       options);
}

}  // namespace

void WeightedShards::describe(Fields& fields) {
  fields.add("shards", shards, "files or globs of token shards").path();
  fields.add("weight", weight, "its share of the sequences, beside the other sources' weights").above(0).below(1e9);
}

namespace {

// Which shards.
void describe_shards(DataConfig& config, Fields& fields) {
  fields
      .add("train_shards", config.train_shards,
           "files or globs of token shards to train on: Sluice's (`sluice tokenizer encode`) or llm.c's")
      .when("type", {"tokens"})
      .path();
  fields
      .add("validation_shards", config.validation_shards,
           "files or globs of token shards to evaluate on, always read in order")
      .when("type", {"tokens"})
      .path();
  fields
      .add_list(
          "sources", config.sources,
          "several sources to train on instead of train_shards, mixed by sequence in proportion to their weights; "
          "each goes through its own epochs")
      .when("type", {"tokens"});
  fields
      .add("tokenizer", config.tokenizer,
           "the tokenizer that made the shards, as for `sluice tokenizer encode`; shards of another one are refused, "
           "and "
           "evaluations know the bytes of their text. Empty: shards say by themselves what they are")
      .when("type", {"tokens"})
      .path();
  fields
      .add("shard_format", config.shard_format,
           "auto: the shards' headers tell; uint16, uint32: files without header are tokens of this width alone "
           "(nanoGPT's "
           "have uint16), and those with one are known all the same")
      .one_of(kShardFormatNames)
      .when("type", {"tokens"});
}

// How they are read.
void describe_reading(DataConfig& config, Fields& fields) {
  fields
      .add("shuffle", config.shuffle,
           "the order of the training data, drawn anew each epoch: windows (of each shard's text as it stands), "
           "documents "
           "(shuffled and packed one behind the other before windows are cut and shuffled), or none (plain order)")
      .one_of({"windows", "documents", "none"})
      .when("type", {"tokens"});
  fields
      .add("document_mask", config.document_mask,
           "attention does not reach back across the start of a document, in training and in evaluations")
      .when("type", {"tokens"});
  fields
      .add("document_token", config.document_token,
           "the token that opens a document in shards that do not list their documents (llm.c's, nanoGPT's); -1: the "
           "tokenizer's end of text")
      .range(-1, (1 << 24) - 1)
      .when("type", {"tokens"});
  fields
      .add("first_token", config.first_token,
           "a token that every sequence begins with, before its text: the fixed first token with which sinks emerge "
           "sooner (arXiv 2410.10781); -1: none")
      .range(-1, (1 << 24) - 1)
      .when("type", {"tokens"});
  fields.add("verify", config.verify, "read all shards once before training, and compare their checksums")
      .when("type", {"tokens"});
}

}  // namespace

void MaskingConfig::describe(Fields& fields) {
  fields
      .add("share", share,
           "of a sequence's tokens, those that are predicted: round(share * context), one at least; BERT's is 0.15. 0: "
           "every token is predicted from those before it")
      .range(0, 1);
  fields.add("token", token, "the mask token, an id that the text does not have; -1: the tokenizer's (data.tokenizer)")
      .range(-1, (1 << 24) - 1);
  fields.add("replaced", replaced, "of these, those with the mask token in their place").range(0, 1);
  fields.add("random", random, "and those with a random token of the vocabulary in it; the rest stay as they are")
      .range(0, 1);
  fields.add("never", never,
             "tokens that are not predicted, beside data.first_token, data.document_token and the tokenizer's "
             "before and behind a document");
}

namespace {

Json unmasked() {
  MaskingConfig none;
  Fields fields;
  none.describe(fields);
  return fields.dump();
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
  describe_shards(*this, fields);
  describe_reading(*this, fields);
  fields
      .add_group("masking", masking,
                 "masked language modelling (BERT, arXiv 1810.04805): which tokens of a sequence are to be predicted "
                 "from both sides; needs model.causal = false")
      .when("type", {"tokens", "random"})
      .not_written_as(unmasked());
}

namespace {

std::unique_ptr<DataSource> make_unmasked(const DataConfig& config, Split split, int64_t context, int64_t vocab_size,
                                          uint64_t seed, std::shared_ptr<const Tokenizer> tokenizer) {
  if (config.type == "random") return std::make_unique<RandomTokens>(split, context, vocab_size, seed);
  if (config.type == "tokens") {
    TokenShardsOptions options;
    options.context = context;
    options.vocab_size = vocab_size;
    options.seed = seed;
    options.tokenizer = std::move(tokenizer);
    return make_tokens(config, split, options);
  }
  check_eq(config.type, std::string("bigram_backcopy"), "data.type");
  return make_bigram_backcopy(config, split, context, vocab_size, seed);
}

// Tokens that begin a document or a window are no text.
std::vector<int32_t> never_masked(const DataConfig& config, const Tokenizer* tokenizer) {
  std::vector<int32_t> out(config.masking.never.begin(), config.masking.never.end());
  for (const int64_t token : {config.document_token, config.first_token})
    if (token >= 0) out.push_back(int32_t(token));
  if (!tokenizer) return out;
  for (const int32_t token : {tokenizer->end_of_text(), tokenizer->closes_text()})
    if (token >= 0) out.push_back(token);
  return out;
}

// What to set, where nothing says which the mask token is: an id behind those of the text.
[[noreturn]] void ask_for_mask_token(const Tokenizer* tokenizer, int64_t vocab_size) {
  const char* const wanted = "set it to the id of a token that the text does not have";
  if (!tokenizer) throw UserError("data.masking.token is not set, and no data.tokenizer says what it is: {}", wanted);
  const int64_t free = tokenizer->vocab_size();
  throw UserError("data.masking.token is not set, and {} has no mask token: {}, such as {}{}", tokenizer->name(),
                  wanted, free, free < vocab_size ? "" : fmt::format(", and model.vocab_size to {}", free + 1));
}

// Whether the tokenizer makes the token of its own piece of text; of one that is no whole character it is assumed.
bool texts_have(const Tokenizer& tokenizer, int32_t token) {
  const std::string_view piece = tokenizer.token_bytes(token);
  if (scan_utf8(piece).valid < piece.size()) return true;
  std::vector<int32_t> tokens;
  try {
    tokenizer.encode(piece, tokens);
  } catch (const UserError&) {
    return false;  // no text has such characters
  }
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

// The mask token must be none of the text's.
void check_mask_token(const DataConfig& config, int64_t token, const Tokenizer* tokenizer, int64_t vocab_size) {
  if (token >= vocab_size)
    throw UserError("data.masking.token is {}, but model.vocab_size = {} has tokens up to {}", token, vocab_size,
                    vocab_size - 1);
  for (const auto& [key, other] :
       {std::pair{"first_token", config.first_token}, {"document_token", config.document_token}})
    if (token == other) throw UserError("data.masking.token is {}, which is data.{} too", token, key);
  if (!tokenizer || token >= tokenizer->vocab_size() || token == tokenizer->mask_token()) return;
  if (token == tokenizer->end_of_text() || token == tokenizer->closes_text())
    throw UserError("data.masking.token is {}, which stands between the documents of {}", token, tokenizer->name());
  if (texts_have(*tokenizer, int32_t(token)))
    throw UserError("data.masking.token is {}, which texts have: it is \"{}\" of {}", token,
                    tokenizer->token_bytes(int32_t(token)), tokenizer->name());
}

Masking masking_of(const DataConfig& config, int64_t vocab_size, const Tokenizer* tokenizer) {
  const MaskingConfig& masking = config.masking;
  for (const int64_t never : masking.never)
    if (never < 0 || never >= vocab_size)
      throw UserError("data.masking.never has {}, but model.vocab_size = {} has tokens 0 to {}", never, vocab_size,
                      vocab_size - 1);
  const int64_t token = mask_token_of(masking, tokenizer);
  if (token < 0) ask_for_mask_token(tokenizer, vocab_size);
  check_mask_token(config, token, tokenizer, vocab_size);
  return {.share = masking.share,
          .replaced = masking.replaced,
          .random = masking.random,
          .token = int32_t(token),
          .vocab_size = vocab_size,
          .never = never_masked(config, tokenizer)};
}

}  // namespace

int64_t mask_token_of(const MaskingConfig& masking, const Tokenizer* tokenizer) {
  if (masking.token >= 0 || !tokenizer) return masking.token;
  return tokenizer->mask_token().value_or(-1);
}

std::unique_ptr<DataSource> make_source(const DataConfig& config, Split split, int64_t context, int64_t vocab_size,
                                        uint64_t seed) {
  std::shared_ptr<const Tokenizer> tokenizer;
  if (!config.tokenizer.empty()) tokenizer = load_tokenizer(config.tokenizer, config.tokenizer_key);
  auto source = make_unmasked(config, split, context, vocab_size, seed, tokenizer);
  if (config.masking.share == 0) return source;
  return std::make_unique<MaskedTokens>(std::move(source), masking_of(config, vocab_size, tokenizer.get()), split,
                                        seed);
}

}  // namespace sluice
