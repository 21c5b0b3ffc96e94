// One token shard (data/shard_format.h), memory-mapped: nothing is copied but the tokens of a batch.
//
// Documents are known by where they start. Sluice's shards list that; in others a document starts at each occurrence of
// one token, and, so that no token is without document, at the shard's first token.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/shard_format.h"

namespace sluice {

class Shard {
 public:
  // `key` is the config key to name in messages. UserError if the file is missing, not a shard, of a version that is
  // not known, or of another size than its header says.
  Shard(std::string path, const std::string& key, PlainTokens plain = PlainTokens::kHeader);
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  const std::string& path() const { return path_; }
  const ShardInfo& info() const { return info_; }
  int64_t tokens() const { return info_.tokens; }

  void copy(int64_t start, int64_t count, int32_t* out) const;       // uint32 ids beyond 2^31 become negative
  int64_t largest(int64_t start, int64_t count) const;               // -1 if there are none
  std::span<const std::byte> stored(int64_t start, int64_t count) const;

  // Reads the whole file. UserError if it is a Sluice shard whose checksum is another than its bytes'.
  void verify(const std::string& key) const;

  // To be called before the two functions below where the shard may not list its documents: `token` opens one. With
  // `whole` all of them are found now, which documents() needs. UserError if the list in the file is damaged.
  void find_documents(int64_t token, bool whole, const std::string& key);

  // Whether the shard lists its documents or its token occurs in it; reads up to the first occurrence.
  bool has_documents() const;

  std::span<const uint64_t> documents() const { return documents_; }  // where each starts; the first is 0

  // Calls found(position) for each document that starts in [start, start + count), in order.
  template <class Found>
  void for_each_document(int64_t start, int64_t count, const Found& found) const;

 private:
  template <class Use>
  auto with_tokens(int64_t start, int64_t count, const Use& use) const;
  void check_width(const std::string& key) const;
  void check_documents(const std::string& key) const;
  void add_matches(int64_t start, int64_t count, std::vector<uint64_t>& out) const;

  std::string path_;
  ShardInfo info_;
  const std::byte* map_ = nullptr;
  size_t bytes_ = 0;
  int64_t document_token_ = -1;             // where the shard does not list its documents
  std::span<const uint64_t> documents_;     // in the file, or found_
  std::vector<uint64_t> found_;
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
