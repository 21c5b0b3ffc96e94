// Character bigram counts of a text: all that the Bigram-Backcopy task knows of a language.
//
// A character is a byte. Its id is its rank among the distinct bytes of the text in byte order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// One text may hold at most this many distinct bytes.
inline constexpr int64_t kMaxTextCharacters = 250;

struct BigramStatistics {
  std::string source;             // what was counted, for messages and the log
  std::string characters;         // the distinct bytes, sorted; character id = index
  std::vector<uint64_t> unigram;  // [n] occurrences of a
  std::vector<uint64_t> bigram;   // [n, n] row a, column b: how often b follows a

  int64_t size() const { return int64_t(characters.size()); }
};

// The counts that come with Sluice: tiny-shakespeare, 65 characters.
BigramStatistics tiny_shakespeare_statistics();

// Counts a text. UserError (naming data.statistics and `source`) if it is empty or has too many distinct bytes.
BigramStatistics count_bigrams(std::string_view text, std::string source);

// Reads and counts a file. UserError also if it cannot be read.
BigramStatistics count_bigrams_of_file(const std::string& path);

}  // namespace sluice
