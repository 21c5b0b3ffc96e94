// Sequences from token shards (data/shards/shard.h): windows of context + 1 tokens, which are context inputs and the
// last target, one every context tokens. What they are cut from, and their order in training, is up to `shuffle`:
//
//   windows     each shard by itself, its tokens in order; each epoch visits every window once, in an order of its own
//   documents   one row of all documents, in an order that each epoch has for itself (data/sources/document_order.h),
//   so that
//               other documents meet in a window each time; the row's windows are shuffled as above
//   none        as windows, in plain order
//
// With a `first_token`, that token opens every window, its text moves on by one position, and the last target is no
// longer the next window's first token.
//
// The remainder of a shard, or of the row, that makes no whole window is left out. The held-out split is windows in one
// fixed order, of which every beginning is spread evenly over the whole split: a part of it stands for all.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/shards/shard.h"
#include "data/sources/document_order.h"
#include "data/sources/source.h"
#include "data/tokenizers/tokenizer.h"

namespace sluice {

enum class Shuffle { kWindows, kDocuments, kNone };

struct TokenShardsOptions {
  std::string key;                               // the config key or option that names the files, for messages
  std::string tokenizer_key = "data.tokenizer";  // and the tokenizer
  Split split = Split::kTrain;
  int64_t context = 0, vocab_size = 0;  // the model's
  uint64_t seed = 0;
  Shuffle shuffle = Shuffle::kWindows;
  bool mask_documents = false;
  int64_t document_token = -1;                 // opens a document in shards that do not list them; -1: the tokenizer's
  int64_t first_token = -1;                    // opens every window, before the text; -1: none
  PlainTokens plain = PlainTokens::kHeader;    // of files without a header
  bool verify = false;                         // compare checksums
  std::shared_ptr<const Tokenizer> tokenizer;  // may be null
};

class TokenShards final : public DataSource {
 public:
  // `patterns` are files or globs. UserError for every kind of bad shard, shards of different tokenizers or of another
  // than `tokenizer`, a vocabulary or (among the first million of a shard) a token beyond `vocab_size`, and too few
  // tokens for one window. fill checks each window's tokens again.
  TokenShards(const std::vector<std::string>& patterns, TokenShardsOptions options);

  void fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const override;
  bool masks_documents() const override { return options_.mask_documents; }
  void fill_document_starts(int64_t first_sequence, int64_t count, int32_t* starts) const override;
  int64_t target_bytes(int64_t first_sequence, int64_t count) const override;
  int64_t vocab_size_needed() const override { return largest_token_ + 1; }
  int64_t sequences_per_epoch() const override { return windows_; }
  std::string describe() const override;
  std::string identity() const override;
  TokenizerId tokenizer() const override;
  std::string token_text(int32_t token) const override;

  int64_t tokens() const { return tokens_; }

 private:
  void open(const std::string& path);
  void check_tokenizer(const Shard& shard) const;
  void find_documents();
  int64_t window_of(int64_t sequence) const;
  // The `count` tokens from a sequence's first on.
  std::vector<ShardPiece> pieces_of(int64_t sequence, int64_t count) const;
  int64_t opening() const { return options_.first_token < 0 ? 0 : 1; }  // positions before the text
  void throw_bad_token(const Shard& shard, int64_t position, int64_t token) const;

  TokenShardsOptions options_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<int64_t> first_window_{0};  // [shards + 1]; of windows that do not cross shards
  std::optional<DocumentOrder> documents_;
  uint64_t spread_ = 1;  // windows between two held-out sequences that follow each other
  int64_t windows_ = 0, tokens_ = 0, largest_token_ = 0;
};

}  // namespace sluice
