// Which window is sequence n: orders of windows and documents, and reading them (token_shards.h).
#include "data/sources/token_shards.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include <xxhash.h>

#include "base/error.h"
#include "base/files/glob.h"
#include "data/sources/permutation.h"
#include "data/tokenizers/token_text.h"

namespace sluice {

namespace {

constexpr int64_t kOpeningScan = 1 << 20;     // tokens of each shard that are checked against the vocabulary at once
constexpr int64_t kIdentityTokens = 1 << 16;  // tokens at each end of a shard that its identity depends on

// The files that `patterns` name, those of one glob in alphabetical order.
std::vector<std::string> expand(const std::vector<std::string>& patterns, const std::string& key) {
  std::vector<std::string> paths;
  for (const std::string& pattern : patterns) {
    if (!looks_like_glob(pattern) || std::filesystem::exists(pattern)) {
      paths.push_back(pattern);
      continue;
    }
    const auto found = expand_glob(pattern, key);
    if (found.empty()) throw UserError("{}: no file matches {}", key, pattern);
    paths.insert(paths.end(), found.begin(), found.end());
  }
  return paths;
}

// Multiples of this step, modulo `count`, visit all numbers below `count`, and the first few of them lie evenly between
// 0 and `count`, however many they are: the golden section of `count`, or its neighbour without a common divisor.
uint64_t spreading_step(int64_t count) {
  auto step = std::max<int64_t>(1, std::llround(double(count) * 0.6180339887498949));
  while (std::gcd(step, count) != 1) ++step;
  return uint64_t(step);
}

TokenizerId id_of(const Tokenizer& tokenizer) { return {tokenizer.name(), tokenizer.hash()}; }
TokenizerId id_of(const Shard& shard) { return {shard.info().tokenizer_name, shard.info().tokenizer_hash}; }

}  // namespace

// ---- opening --------------------------------------------------------------------------------------------------------

TokenShards::TokenShards(const std::vector<std::string>& patterns, TokenShardsOptions options)
    : DataSource(options.context), options_(std::move(options)) {
  const std::string& key = options_.key;
  if (options_.first_token >= options_.vocab_size) {
    throw UserError("data.first_token is {}, but model.vocab_size is {}", options_.first_token, options_.vocab_size);
  }
  if (patterns.empty()) {
    throw UserError("{} names no file, so there are no tokens to {}", key,
                    options_.split == Split::kTrain ? "train on"
                                                    : "evaluate on; where none are wanted, set log.eval_every, "
                                                      "log.probe_every, log.analyze_every and "
                                                      "log.map_positions to 0");
  }
  for (const std::string& path : expand(patterns, key)) open(path);
  find_documents();
  windows_ = documents_ ? std::max<int64_t>(tokens_ - 1, 0) / context() : first_window_.back();
  if (windows_ == 0) {
    throw UserError("{} has {} tokens in {} file(s), and {} one window of model.context + 1 = {} tokens", key, tokens_,
                    shards_.size(), documents_ ? "they do not make" : "none holds", context() + 1);
  }
  spread_ = spreading_step(windows_);
}

void TokenShards::open(const std::string& path) {
  auto shard = std::make_unique<Shard>(path, options_.key, options_.plain);
  check_tokenizer(*shard);
  if (options_.verify) shard->verify(options_.key);
  const int64_t count = shard->tokens(), scanned = options_.verify ? count : std::min(count, kOpeningScan);
  const int64_t largest = shard->largest(0, scanned);
  if (largest >= options_.vocab_size) throw_bad_token(*shard, 0, scanned);
  largest_token_ = std::max(largest_token_, largest);
  first_window_.push_back(first_window_.back() + std::max<int64_t>(count - 1, 0) / context());
  tokens_ += count;
  shards_.push_back(std::move(shard));
}

void TokenShards::check_tokenizer(const Shard& shard) const {
  const ShardInfo& info = shard.info();
  if (info.vocab_size > options_.vocab_size) {
    throw UserError("{}: {} holds tokens of a vocabulary of {} ({}), but model.vocab_size is {}", options_.key,
                    shard.path(), info.vocab_size, info.tokenizer_name, options_.vocab_size);
  }
  const TokenizerId own = id_of(shard);
  if (options_.tokenizer && own.differs(id_of(*options_.tokenizer))) {
    throw UserError("{}: {} was encoded by another tokenizer ({}) than {} ({})", options_.key, shard.path(), own.text(),
                    options_.tokenizer_key, id_of(*options_.tokenizer).text());
  }
  for (const auto& other : shards_) {
    if (!own.differs(id_of(*other))) continue;
    throw UserError("{}: {} was encoded by another tokenizer ({}) than {} ({})", options_.key, shard.path(), own.text(),
                    other->path(), id_of(*other).text());
  }
}

void TokenShards::find_documents() {
  const bool shuffled = options_.shuffle == Shuffle::kDocuments && options_.split == Split::kTrain;
  if (!shuffled && !options_.mask_documents) return;
  int64_t token = options_.document_token;
  if (token < 0 && options_.tokenizer) token = options_.tokenizer->end_of_text();
  if (token >= options_.vocab_size) {
    throw UserError("data.document_token is {}, but model.vocab_size is {}", token, options_.vocab_size);
  }
  bool any = false;
  std::vector<const Shard*> shards;
  for (const auto& shard : shards_) {
    if (token < 0 && shard->info().documents == 0 && shard->tokens() > 0) {
      throw UserError(
          "{}: {} does not say where its documents start, which {} needs; set data.document_token to the id "
          "that opens one (50256 in GPT-2's vocabulary)",
          options_.key, shard->path(), shuffled ? "data.shuffle documents" : "data.document_mask");
    }
    shard->find_documents(token, shuffled, options_.key);
    any = any || shard->has_documents();
    shards.push_back(shard.get());
  }
  if (!any && tokens_ > 0) {
    throw UserError(
        "{}: no document starts anywhere in {} file(s), for the token {} that should open one does not occur; "
        "set data.document_token",
        options_.key, shards_.size(), token);
  }
  if (shuffled && tokens_ > 0) documents_.emplace(std::move(shards), options_.seed);
}

// ---- sequences ------------------------------------------------------------------------------------------------------

int64_t TokenShards::window_of(int64_t sequence) const {
  const int64_t place = sequence % windows_;
  if (options_.split == Split::kHeldOut) {
    return int64_t((unsigned __int128)(place)*spread_ % (unsigned __int128)(windows_));  // beyond 2^64 for many windows
  }
  if (options_.shuffle == Shuffle::kNone) return place;
  return int64_t(order_of_epoch(uint64_t(windows_), options_.seed, uint32_t(sequence / windows_))(uint64_t(place)));
}

std::vector<ShardPiece> TokenShards::pieces_of(int64_t sequence, int64_t count) const {
  check(sequence >= 0, "sequence numbers start at 0");
  const int64_t window = window_of(sequence);
  std::vector<ShardPiece> pieces;
  if (documents_) {
    documents_->find(sequence / windows_, window * context(), count, pieces);
    return pieces;
  }
  const auto after = std::upper_bound(first_window_.begin(), first_window_.end(), window);
  const size_t index = size_t(after - first_window_.begin()) - 1;
  pieces.push_back({shards_[index].get(), (window - first_window_[index]) * context(), count});
  return pieces;
}

void TokenShards::throw_bad_token(const Shard& shard, int64_t start, int64_t count) const {
  const Shard::TokenAt bad = shard.find_not_below(options_.vocab_size, start, count);
  throw UserError("{}: {} has token id {} at position {}, but model.vocab_size is {}{}", options_.key, shard.path(),
                  bad.token, bad.position, options_.vocab_size,
                  shard.info().format == ShardFormat::kPlain
                      ? fmt::format("; data.shard_format has it read as uint{}", 8 * shard.info().token_bytes)
                      : "");
}

void TokenShards::fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const {
  const int64_t length = context();
  std::vector<int32_t> window(size_t(length) + 1, int32_t(options_.first_token));
  for (int64_t row = 0; row < count; ++row) {
    int32_t* next = window.data() + opening();
    for (const ShardPiece& piece : pieces_of(first_sequence + row, length + 1 - opening())) {
      if (piece.shard->copy(piece.start, piece.count, next) >= options_.vocab_size) {
        throw_bad_token(*piece.shard, piece.start, piece.count);
      }
      next += piece.count;
    }
    std::copy_n(window.begin(), length, inputs + row * length);
    std::copy_n(window.begin() + 1, length, targets + row * length);
  }
}

void TokenShards::fill_document_starts(int64_t first_sequence, int64_t count, int32_t* starts) const {
  if (!options_.mask_documents) return DataSource::fill_document_starts(first_sequence, count, starts);
  for (int64_t row = 0; row < count; ++row, starts += context()) {
    int64_t done = 0;      // positions that are filled
    int32_t document = 0;  // where the current one starts in the window
    const auto fill_to = [&](int64_t end) {
      std::fill(starts + done, starts + end, document);
      done = end;
    };
    int64_t offset = opening();  // of the piece in the window
    for (const ShardPiece& piece : pieces_of(first_sequence + row, context() - opening())) {
      piece.shard->for_each_document(piece.start, piece.count, [&](int64_t position) {
        fill_to(offset + position - piece.start);
        document = int32_t(done);
      });
      offset += piece.count;
      fill_to(offset);
    }
  }
}

int64_t TokenShards::target_bytes(int64_t first_sequence, int64_t count) const {
  if (!options_.tokenizer || !options_.tokenizer->loses().empty()) return 0;
  const Tokenizer& tokenizer = *options_.tokenizer;
  std::vector<int32_t> inputs(static_cast<size_t>(context())), targets(inputs.size());
  int64_t bytes = 0;
  for (int64_t sequence = first_sequence; sequence < first_sequence + count; ++sequence) {
    fill(sequence, 1, inputs.data(), targets.data());
    for (size_t i = 0; i < targets.size(); ++i) {
      if (targets[i] == tokenizer.end_of_text() || targets[i] >= tokenizer.vocab_size()) continue;
      bytes += int64_t(tokenizer.token_bytes(targets[i]).size());
      // The blank before a document, where the text shows its opening; a window's first token (data.first_token) is
      // none.
      if (tokenizer.adds_blank() && int64_t(i) >= opening() && inputs[i] == tokenizer.end_of_text()) --bytes;
    }
  }
  return bytes;
}

// ---- what it says about itself --------------------------------------------------------------------------------------

std::string TokenShards::describe() const {
  std::string text = fmt::format("tokens: {} tokens in {} file(s), {} windows of {}, {} split", tokens_, shards_.size(),
                                 windows_, context(), split_name(options_.split));
  if (documents_) text += fmt::format(", {} shuffled documents", documents_->documents());
  if (options_.mask_documents) text += ", documents masked";
  if (options_.first_token >= 0) text += fmt::format(", token {} before each window", options_.first_token);
  if (options_.tokenizer && !options_.tokenizer->loses().empty())
    text += fmt::format("; no bits per byte, as {} loses {}", options_.tokenizer->name(), options_.tokenizer->loses());
  return text;
}

std::string TokenShards::identity() const {
  XXH64_hash_t hash = 0;
  for (const auto& shard : shards_) {
    const int64_t count = shard->tokens(), edge = std::min(count, kIdentityTokens);
    hash ^= shard->info().checksum;  // of all bytes, where the header has it
    for (const auto& part : {shard->stored(0, edge), shard->stored(count - edge, edge)}) {
      hash = XXH64(part.data(), part.size(), hash + uint64_t(count));
    }
  }
  return fmt::format("tokens:{}:{:016x}", tokens_, hash);
}

TokenizerId TokenShards::tokenizer() const {
  if (options_.tokenizer) return id_of(*options_.tokenizer);
  for (const auto& shard : shards_) {
    if (TokenizerId id = id_of(*shard); !id.name.empty()) return id;
  }
  return {};
}

std::string TokenShards::token_text(int32_t token) const {
  const Tokenizer* tokenizer = options_.tokenizer.get();
  if (!tokenizer || token < 0 || token >= tokenizer->vocab_size()) return DataSource::token_text(token);
  return visible_text(tokenizer->token_bytes(token));
}

}  // namespace sluice
