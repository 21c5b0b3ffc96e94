// One pass over the lengths of all documents for an epoch, and a table from which places are found (document_order.h).
#include "data/sources/document_order.h"

#include <algorithm>

#include "base/error.h"
#include "base/philox.h"
#include "data/sources/permutation.h"

namespace sluice {

namespace {

constexpr int64_t kMostEntries = 1 << 20, kSmallestStride = 16;

// Windows are shuffled by (seed, epoch) too, and must not follow the documents' order.
uint64_t document_seed(uint64_t seed) {
  const Random4 words = philox(seed, uint64_t(Stream::kDocuments), 0);
  return uint64_t{words.word[0]} << 32 | words.word[1];
}

}  // namespace

DocumentOrder::DocumentOrder(std::vector<const Shard*> shards, uint64_t seed)
    : shards_(std::move(shards)), seed_(document_seed(seed)) {
  for (const Shard* shard : shards_) {
    first_document_.push_back(first_document_.back() + int64_t(shard->documents().size()));
    tokens_ += shard->tokens();
  }
  stride_ = std::max(kSmallestStride, (documents() + kMostEntries - 1) / kMostEntries);
}

ShardPiece DocumentOrder::document(int64_t number) const {
  const auto after = std::upper_bound(first_document_.begin(), first_document_.end(), number);
  const size_t shard_number = size_t(after - first_document_.begin()) - 1;
  const Shard& shard = *shards_[shard_number];
  const size_t local = size_t(number - first_document_[shard_number]);
  const auto starts = shard.documents();
  const int64_t start = int64_t(starts[local]);
  const int64_t end = local + 1 < starts.size() ? int64_t(starts[local + 1]) : shard.tokens();
  return {&shard, start, end - start};
}

std::shared_ptr<const DocumentOrder::Index> DocumentOrder::make_index(int64_t epoch) const {
  auto index = std::make_shared<Index>();
  index->epoch = epoch;
  const Permutation order = order_of_epoch(uint64_t(documents()), seed_, uint32_t(epoch));
  const int64_t groups = (documents() + stride_ - 1) / stride_;
  index->first_token.resize(size_t(groups) + 1);
#pragma omp parallel for schedule(static)
  for (int64_t group = 0; group < groups; ++group) {
    int64_t sum = 0;
    const int64_t end = std::min((group + 1) * stride_, documents());
    for (int64_t place = group * stride_; place < end; ++place) sum += document(int64_t(order(uint64_t(place)))).count;
    index->first_token[size_t(group) + 1] = sum;
  }
  for (size_t group = 1; group < index->first_token.size(); ++group) {
    index->first_token[group] += index->first_token[group - 1];
  }
  check_eq(index->first_token.back(), tokens_, "tokens of all documents");
  return index;
}

std::shared_ptr<const DocumentOrder::Index> DocumentOrder::index_of(int64_t epoch) const {
  const std::lock_guard lock(mutex_);
  auto& [newer, older] = recent_;
  if (newer && newer->epoch == epoch) return newer;
  if (older && older->epoch == epoch) return older;
  older = std::move(newer);
  newer = make_index(epoch);
  return newer;
}

void DocumentOrder::find(int64_t epoch, int64_t start, int64_t count, std::vector<ShardPiece>& pieces) const {
  check_le(start + count, tokens_, "the end of a stretch of the shuffled documents");
  const auto index = index_of(epoch);
  const Permutation order = order_of_epoch(uint64_t(documents()), seed_, uint32_t(epoch));
  const auto after = std::upper_bound(index->first_token.begin(), index->first_token.end(), start);
  const int64_t group = after - index->first_token.begin() - 1;
  int64_t skip = start - index->first_token[size_t(group)];  // tokens of the documents from here on
  for (int64_t place = group * stride_; count > 0; ++place) {
    const ShardPiece whole = document(int64_t(order(uint64_t(place))));
    if (skip >= whole.count) {
      skip -= whole.count;
      continue;
    }
    const int64_t taken = std::min(whole.count - skip, count);
    pieces.push_back({whole.shard, whole.start + skip, taken});
    count -= taken;
    skip = 0;
  }
}

}  // namespace sluice
