// Token shards on disk, in llm.c's format: 256 int32 of header (magic, version, number of tokens, zeros), then the
// tokens as little-endian uint16. Files are memory-mapped; nothing is copied but the windows of a batch.
//
// A window is context + 1 tokens: context inputs and the last target. Windows start every `context` tokens and never
// cross a shard. Training visits every window once an epoch, in an order shuffled anew each epoch (data/permutation.h);
// the held-out split reads them in order and starts again after the last.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/source.h"

namespace sluice {

inline constexpr int32_t kShardMagic = 20240520, kShardVersion = 1;
inline constexpr int64_t kShardHeaderInts = 256;

// One shard, mapped while the object lives. `key` is the config key to name in messages. UserError if the file is
// missing, not a shard, of another version, or of another size than its header says.
class Shard {
 public:
  Shard(const std::string& path, const std::string& key);
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  const std::string& path() const { return path_; }
  std::span<const uint16_t> tokens() const { return tokens_; }

 private:
  void check_header(const std::string& key);

  std::string path_;
  void* map_ = nullptr;
  size_t bytes_ = 0;
  std::span<const uint16_t> tokens_;
};

class TokenShards final : public DataSource {
 public:
  // `patterns` are files or globs. UserError for every kind of bad shard, too few tokens for one window, or a token
  // beyond `vocab_size` among the first million of a shard (fill checks each window again).
  TokenShards(const std::vector<std::string>& patterns, std::string key, Split split, int64_t context,
              int64_t vocab_size, uint64_t seed);

  void fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const override;
  int64_t vocab_size_needed() const override { return largest_token_ + 1; }
  int64_t sequences_per_epoch() const override { return first_window_.back(); }
  std::string describe() const override;
  std::string identity() const override;

  int64_t tokens() const { return tokens_; }

 private:
  int64_t window_of(int64_t sequence) const;
  // The largest of `count` tokens of a shard from `start` on; UserError if it is beyond the vocabulary.
  int64_t check_tokens(const Shard& shard, int64_t start, int64_t count) const;

  std::string key_;
  Split split_;
  int64_t vocab_size_;
  uint64_t seed_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<int64_t> first_window_{0};  // [shards + 1]; the last is the number of windows
  int64_t tokens_ = 0, largest_token_ = 0;
};

// Writes a shard, aside and then renamed. UserError beyond 2^31 - 1 tokens (the header's count is an int32); RunError
// if the file cannot be written.
void write_shard(const std::string& path, std::span<const uint16_t> tokens);

}  // namespace sluice
