// The cache's table: open addressing with linear probing, at most half full.
#include "data/tokenizers/word_cache.h"

#include <xxhash.h>

#include <atomic>
#include <cstring>

namespace sluice {

uint64_t WordCache::hash_of(std::string_view word) { return XXH3_64bits(word.data(), word.size()); }

const WordCache::Entry* WordCache::find(std::string_view word, uint64_t hash) const {
  if (slots_.empty()) return nullptr;
  for (size_t slot = hash % kSlots;; slot = (slot + 1) % kSlots) {
    const Entry& entry = slots_[slot];
    if (entry.bytes == 0) return nullptr;
    if (entry.tag == uint32_t(hash >> 32) && entry.bytes == word.size() &&
        std::memcmp(bytes_.data() + entry.first_byte, word.data(), word.size()) == 0) {
      return &entry;
    }
  }
}

void WordCache::insert(std::string_view word, uint64_t hash, const int32_t* ids, size_t count) {
  if (word.empty()) return;
  if (entries_ == kMostEntries) clear();
  if (slots_.empty()) slots_.resize(kSlots);
  size_t slot = hash % kSlots;
  while (slots_[slot].bytes != 0) slot = (slot + 1) % kSlots;
  slots_[slot] = {uint32_t(bytes_.size()), uint32_t(ids_.size()), uint16_t(word.size()), uint16_t(count),
                  uint32_t(hash >> 32)};
  bytes_.insert(bytes_.end(), word.begin(), word.end());
  ids_.insert(ids_.end(), ids, ids + count);
  ++entries_;
}

void WordCache::clear() {
  slots_.clear();
  bytes_.clear();
  ids_.clear();
  entries_ = 0;
}

void WordCache::belong_to(uint64_t owner) {
  if (owner != owner_) clear();
  owner_ = owner;
}

WordCache& word_cache(uint64_t owner) {
  thread_local WordCache cache;
  cache.belong_to(owner);
  return cache;
}

uint64_t next_cache_owner() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace sluice
