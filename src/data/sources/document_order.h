// The documents of several shards in a shuffled order, as one long row of tokens that windows are cut from.
//
// Each epoch has its own order (data/sources/permutation.h), computed and not stored. To find a token of the row one
// must know how many tokens the documents before it have: a prefix sum over the shuffled order, of which every
// stride-th entry is kept. It is made when its epoch is first asked for (one pass over the lengths of all documents, by
// all threads); the stride grows with the number of documents, so an epoch takes at most 8 MB, and two epochs are kept
// at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "data/shards/shard.h"

namespace sluice {

// A stretch of one shard, of one document where it comes from a DocumentOrder.
struct ShardPiece {
  const Shard* shard = nullptr;
  int64_t start = 0, count = 0;
};

class DocumentOrder {
 public:
  // The shards must know all their documents, and outlive this.
  DocumentOrder(std::vector<const Shard*> shards, uint64_t seed);

  int64_t documents() const { return first_document_.back(); }
  int64_t tokens() const { return tokens_; }

  // The pieces that make up tokens [start, start + count) of an epoch's row, in order, are appended to `pieces`. Safe
  // to call from several threads.
  void find(int64_t epoch, int64_t start, int64_t count, std::vector<ShardPiece>& pieces) const;

 private:
  struct Index {
    int64_t epoch = -1;
    std::vector<int64_t> first_token;  // of the documents at places 0, stride, 2 stride, ... of the order
  };

  ShardPiece document(int64_t number) const;
  std::shared_ptr<const Index> index_of(int64_t epoch) const;
  std::shared_ptr<const Index> make_index(int64_t epoch) const;

  std::vector<const Shard*> shards_;
  std::vector<int64_t> first_document_{0};  // [shards + 1]
  int64_t tokens_ = 0, stride_ = 1;
  uint64_t seed_;
  mutable std::mutex mutex_;
  mutable std::pair<std::shared_ptr<const Index>, std::shared_ptr<const Index>> recent_;  // the newer first
};

}  // namespace sluice
