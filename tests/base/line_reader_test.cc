// Lines over the borders of pieces, and the limit.
#include "base/files/line_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error_text.h"

namespace sluice {
namespace {

// Gives the text in pieces of `piece` bytes at most, and counts what was taken.
LineReader::Read pieces_of(const std::string& text, size_t piece, size_t& taken) {
  return [&text, piece, &taken](char* to, size_t size) {
    const size_t count = std::min({piece, size, text.size() - taken});
    std::memcpy(to, text.data() + taken, count);
    taken += count;
    return count;
  };
}

std::vector<std::string> lines_of(const std::string& text, size_t piece) {
  size_t taken = 0;
  LineReader reader(pieces_of(text, piece, taken), "f", 100);
  std::vector<std::string> lines;
  for (std::string line; reader.next(line);) lines.push_back(line);
  EXPECT_TRUE(reader.at_end());
  return lines;
}

TEST(LineReader, GivesTheLinesHoweverTheTextComes) {
  for (const size_t piece : {1, 2, 3, 7, 1000}) {
    EXPECT_EQ(lines_of("", piece), std::vector<std::string>{});
    EXPECT_EQ(lines_of("a", piece), std::vector<std::string>{"a"});
    EXPECT_EQ(lines_of("a\n", piece), std::vector<std::string>{"a"});
    EXPECT_EQ(lines_of("a\n\nbc\r\nd", piece), (std::vector<std::string>{"a", "", "bc", "d"}));
  }
}

TEST(LineReader, KnowsWhereItIs) {
  const std::string text = "a\nb\n";
  size_t taken = 0;
  LineReader reader(pieces_of(text, 1, taken), "f", 10);
  std::string line;
  EXPECT_FALSE(reader.at_end());
  ASSERT_TRUE(reader.next(line));
  EXPECT_FALSE(reader.at_end());
  ASSERT_TRUE(reader.next(line));
  EXPECT_EQ(line, "b");
  EXPECT_EQ(reader.place(), "f, line 2");
  EXPECT_TRUE(reader.at_end());
  EXPECT_FALSE(reader.next(line));
}

TEST(LineReader, ALongLineIsRefusedBeforeItIsReadToItsEnd) {
  const std::string text = "ok\n" + std::string(50'000'000, 'x');
  size_t taken = 0;
  LineReader reader(pieces_of(text, text.size(), taken), "f", 1000);
  std::string line;
  ASSERT_TRUE(reader.next(line));
  EXPECT_EQ(user_error_of([&] { reader.next(line); }),
            "f, line 2 has more than 1.0 kB, the limit for a line of this file");
  EXPECT_LT(taken, 2'000'000u);
  std::string just(1001, 'y');
  just.back() = '\n';
  size_t none = 0;
  LineReader fits(pieces_of(just, 300, none), "f", 1000);
  EXPECT_TRUE(fits.next(line));
}

}  // namespace
}  // namespace sluice
