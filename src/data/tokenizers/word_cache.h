// The tokens of words seen before: text repeats its words, and looking one up costs a tenth of encoding it. Bounded:
// a full cache starts again empty, which happens rarely enough not to matter.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace sluice {

class WordCache {
 public:
  // Appends the tokens of `word`; encode(word, tokens) appends them where the word is not known.
  template <class Encode>
  void append(std::string_view word, std::vector<int32_t>& tokens, Encode&& encode) {
    if (word.size() > kLongestWord) return encode(word, tokens);
    const uint64_t hash = hash_of(word);
    if (const Entry* entry = find(word, hash)) {
      const int32_t* first = ids_.data() + entry->first_id;
      tokens.insert(tokens.end(), first, first + entry->ids);
      return;
    }
    const size_t before = tokens.size();
    encode(word, tokens);
    insert(word, hash, tokens.data() + before, tokens.size() - before);
  }

  // Forgets all if `owner` (a number of the tokenizer) is another one than before.
  void belong_to(uint64_t owner);

 private:
  static constexpr size_t kLongestWord = 64, kSlots = 1 << 17, kMostEntries = kSlots / 2;
  struct Entry {
    uint32_t first_byte = 0, first_id = 0;
    uint16_t bytes = 0, ids = 0;  // bytes 0: a free slot
    uint32_t tag = 0;             // of the hash, so that few other words are compared
  };

  static uint64_t hash_of(std::string_view word);
  const Entry* find(std::string_view word, uint64_t hash) const;
  void insert(std::string_view word, uint64_t hash, const int32_t* ids, size_t count);
  void clear();

  std::vector<Entry> slots_;
  std::vector<char> bytes_;
  std::vector<int32_t> ids_;
  size_t entries_ = 0;
  uint64_t owner_ = 0;
};

// This thread's cache, empty if the last one to use it had another `owner`. Owners are numbered from
// next_cache_owner().
WordCache& word_cache(uint64_t owner);
uint64_t next_cache_owner();

}  // namespace sluice
