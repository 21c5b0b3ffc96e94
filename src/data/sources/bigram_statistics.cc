// Counting, and the built-in table (made by scripts/make_bigram_table.py).
#include "data/sources/bigram_statistics.h"

#include <array>
#include <iterator>

#include "base/error.h"
#include "base/files/input_file.h"
#include "base/limits.h"
#include "base/utf8.h"

namespace sluice {

namespace {
#include "data/sources/tiny_shakespeare_bigrams.inc"
}  // namespace

BigramStatistics tiny_shakespeare_statistics() {
  BigramStatistics statistics;
  statistics.source = "tiny-shakespeare (built in)";
  statistics.characters.assign(std::begin(kTableCharacters), std::end(kTableCharacters));
  statistics.unigram.assign(std::begin(kTableUnigram), std::end(kTableUnigram));
  statistics.bigram.assign(std::begin(kTableBigram), std::end(kTableBigram));
  const size_t n = statistics.characters.size();
  check_eq(statistics.unigram.size(), n, "unigram counts of the built-in table");
  check_eq(statistics.bigram.size(), n * n, "bigram counts of the built-in table");
  return statistics;
}

BigramStatistics count_bigrams(std::string_view text, std::string source) {
  if (text.empty()) throw UserError("data.statistics: {} is empty, so there is nothing to count", source);
  std::array<uint64_t, 256> count{};
  for (const char c : text) ++count[uint8_t(c)];

  BigramStatistics statistics;
  statistics.source = std::move(source);
  std::array<size_t, 256> id{};
  for (size_t byte = 0; byte < count.size(); ++byte) {
    if (count[byte] == 0) continue;
    id[byte] = statistics.characters.size();
    statistics.characters.push_back(char(byte));
    statistics.unigram.push_back(count[byte]);
  }
  const size_t n = statistics.characters.size();
  if (int64_t(n) > kMaxTextCharacters) {
    throw UserError("data.statistics: {} has {} distinct bytes, more than the limit of {}; is it a text?",
                    statistics.source, n, kMaxTextCharacters);
  }
  statistics.bigram.resize(n * n);
  for (size_t i = 1; i < text.size(); ++i) {
    ++statistics.bigram[id[uint8_t(text[i - 1])] * n + id[uint8_t(text[i])]];
  }
  return statistics;
}

BigramStatistics count_bigrams_of_file(const std::string& path) {
  std::string text;
  try {
    text = read_regular_file(path, kMostFigureBytes, "the text that bigrams are counted in");
  } catch (const UserError& error) {
    throw UserError("data.statistics: {}", error.what());
  }
  return count_bigrams(without_byte_order_mark(text), path);
}

}  // namespace sluice
