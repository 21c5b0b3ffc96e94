// One token shard (data/shards/shard_format.h), read with pread as it is needed: the system's page cache holds it.
//
// It is not mapped into memory, because whoever cuts a mapped file ends its readers with SIGBUS. Here a file that is
// cut, or overwritten with other bytes, while it is open is an error with its name. (A file that was renamed over it
// changes nothing: this one stays open.)
//
// Documents are known by where they start. Sluice's shards list that; in others a document starts at each occurrence of
// one token, and, so that no token is without document, at the shard's first token.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "data/shards/shard_format.h"

namespace sluice {

// A shard that was fine when it was opened can no longer be read.
class ShardFailed : public RunError {
 public:
  using RunError::RunError;
};

class Shard {
 public:
  // `key` is the config key to name in messages. UserError if the file is missing, not a shard, of a version that is
  // not known, or of another size than its header says. Later, each function that reads may throw ShardFailed.
  Shard(std::string path, const std::string& key, PlainTokens plain = PlainTokens::kHeader);
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  const std::string& path() const { return path_; }
  const ShardInfo& info() const { return info_; }
  int64_t tokens() const { return info_.tokens; }

  // Both return the largest of these tokens; -1 if there are none. In `out` ids beyond 2^31 become negative.
  int64_t copy(int64_t start, int64_t count, int32_t* out) const;
  int64_t largest(int64_t start, int64_t count) const;

  struct TokenAt {
    int64_t position, token;
  };
  // The first of these tokens that is not below `limit`; throws ShardFailed if there is none, for another read has seen
  // one.
  TokenAt find_not_below(int64_t limit, int64_t start, int64_t count) const;
  std::vector<std::byte> stored(int64_t start, int64_t count) const;

  // Reads the whole file. UserError if it is a Sluice shard whose checksum is another than its bytes'.
  void verify(const std::string& key) const;

  // To be called before the two functions below where the shard may not list its documents: `token` opens one. With
  // `whole` all of them are found now, which documents() needs. UserError if the list in the file is damaged. What is
  // known of documents is held in memory, 8 bytes for each.
  void find_documents(int64_t token, bool whole, const std::string& key);

  // Whether the shard lists its documents or its token occurs in it; reads up to the first occurrence.
  bool has_documents() const;

  std::span<const uint64_t> documents() const { return documents_; }  // where each starts; the first is 0

  // Calls found(position) for each document that starts in [start, start + count), in order.
  template <class Found>
  void for_each_document(int64_t start, int64_t count, const Found& found) const;

 private:
  struct Stamp;  // what tells that a file was written to

  template <class Use>
  void with_tokens(int64_t start, int64_t count, const Use& use) const;
  void read(uint64_t offset, std::byte* out, size_t bytes) const;
  [[noreturn]] void throw_cut() const;
  void check_unchanged() const;
  uint64_t fingerprint() const;
  void check_width(const std::string& key) const;
  void check_documents(const std::string& key) const;
  void add_matches(int64_t start, int64_t count, std::vector<uint64_t>& out) const;

  std::string path_;
  int file_ = -1;
  ShardInfo info_;
  size_t bytes_ = 0;
  uint64_t fingerprint_ = 0;
  mutable std::mutex mutex_;  // of stamp_
  std::unique_ptr<Stamp> stamp_;
  int64_t document_token_ = -1;  // where the shard does not list its documents
  std::vector<uint64_t> documents_;
};

template <class Found>
void Shard::for_each_document(int64_t start, int64_t count, const Found& found) const {
  if (documents_.empty()) {
    std::vector<uint64_t> matches;
    add_matches(start, count, matches);
    for (const uint64_t position : matches) found(int64_t(position));
    return;
  }
  auto next = std::lower_bound(documents_.begin(), documents_.end(), uint64_t(start));
  for (; next != documents_.end() && *next < uint64_t(start + count); ++next) found(int64_t(*next));
}

}  // namespace sluice
