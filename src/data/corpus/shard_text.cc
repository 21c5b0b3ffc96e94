// A shard document by document, with the separators that its text had (shard_text.h).
#include "data/corpus/shard_text.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "data/shards/shard.h"

namespace sluice {
namespace {

constexpr int64_t kBlockTokens = 1 << 16;

void check_tokenizer(const Shard& shard, const Tokenizer& tokenizer) {
  const ShardInfo& info = shard.info();
  if (info.tokenizer_name.empty() || info.tokenizer_hash == tokenizer.hash()) return;
  throw UserError("{} was made with the tokenizer {} (hash {:016x}), but --tokenizer is {} (hash {:016x})",
                  shard.path(), info.tokenizer_name, info.tokenizer_hash, tokenizer.name(), tokenizer.hash());
}

void check_tokens(const Shard& shard, int64_t first, int64_t count, const Tokenizer& tokenizer) {
  if (shard.largest(first, count) < tokenizer.vocab_size()) return;
  const Shard::TokenAt bad = shard.find_not_below(tokenizer.vocab_size(), first, count);
  throw UserError("{} has token id {} at position {}, but {} knows only those below {}", shard.path(), bad.token,
                  bad.position, tokenizer.name(), tokenizer.vocab_size());
}

// Writes text, and knows how the last of it ended.
struct TextEnd {
  const std::function<void(std::string_view)>& write;
  char last = '\n';

  void operator()(std::string_view text) {
    if (text.empty()) return;
    last = text.back();
    write(text);
  }
};

// The text of tokens [first, end), which are one document without what opens it.
void decode_document(const Shard& shard, int64_t first, int64_t end, const Tokenizer& tokenizer, TextEnd& out) {
  std::vector<int32_t> block;
  for (int64_t at = first; at < end; at += int64_t(block.size())) {
    block.resize(size_t(std::min(kBlockTokens, end - at)));
    check_tokens(shard, at, int64_t(block.size()), tokenizer);
    shard.copy(at, int64_t(block.size()), block.data());
    out(tokenizer.decode(block, /*continued=*/at > first));
  }
}

bool opens_document(const Shard& shard, int64_t at, int64_t end, const Tokenizer& tokenizer) {
  return at < end && tokenizer.end_of_text() >= 0 && shard.largest(at, 1) == tokenizer.end_of_text();
}

// Whether the last of tokens [first, end) is what stands behind a document.
bool closes_document(const Shard& shard, int64_t first, int64_t end, const Tokenizer& tokenizer) {
  return first < end && tokenizer.closes_text() >= 0 && shard.largest(end - 1, 1) == tokenizer.closes_text();
}

}  // namespace

void decode_shard(const std::string& path, const Tokenizer& tokenizer, const std::string& separator,
                  const std::function<void(std::string_view)>& write, PlainTokens plain) {
  const std::string key = "tokenizer decode";
  Shard shard(path, key, plain);
  check_tokenizer(shard, tokenizer);
  shard.find_documents(tokenizer.end_of_text(), /*whole=*/true, key);
  const auto documents = shard.documents();
  TextEnd out{write};
  for (size_t i = 0; i < documents.size(); ++i) {
    const auto begin = int64_t(documents[i]);
    const int64_t end = i + 1 < documents.size() ? int64_t(documents[i + 1]) : shard.tokens();
    const bool opened = opens_document(shard, begin, end, tokenizer);
    if (opened && separator.empty()) out(kEndOfText);
    const bool closed = closes_document(shard, begin + opened, end, tokenizer);
    decode_document(shard, begin + opened, end - closed, tokenizer, out);
    if (separator.empty()) continue;
    if (out.last != '\n') out("\n");
    out(separator + "\n");
  }
}

}  // namespace sluice
