// UTF-8: every code point there and back, and every way a sequence can be wrong.
#include "base/utf8.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(Utf8, EveryCharacterThereAndBack) {
  for (char32_t character = 0; character < 0x110000; ++character) {
    std::string text;
    append_utf8(text, character);
    const bool surrogate = character >= 0xD800 && character < 0xE000;
    ASSERT_EQ(scan_utf8(text).valid == text.size(), !surrogate) << std::hex << uint32_t(character);
    if (surrogate) continue;
    ASSERT_EQ(utf8_length(text[0]), text.size());
    std::string_view rest = text;
    ASSERT_EQ(take_character(rest), character);
    ASSERT_TRUE(rest.empty());
  }
}

TEST(Utf8, FindsWhatIsWrong) {
  struct Case {
    std::string text;
    size_t valid, bad;
    bool incomplete;
  };
  // The lengths of maximal subparts are those of the Unicode standard's table 3-8 and its neighbours.
  const Case cases[] = {
      {"abcdefgh\x80", 8, 1, false},
      {"\xC0\xAF", 0, 1, false},
      {"\xE0\x9F\x80", 0, 1, false},
      {"\xED\xA0\x80", 0, 1, false},
      {"\xF4\x90\x80\x80", 0, 1, false},
      {"\xF5", 0, 1, false},
      {"a\xE2\x82!", 1, 2, false},
      {"\xF1\x80\x80!", 0, 3, false},
      {"\xE2\x82", 0, 2, true},
      {"12345678\xC3", 8, 1, true},
      {"\xC3\xA9", 2, 0, false},
      {"", 0, 0, false},
      {"1234567\xC3\xA9"
       "89",
       11, 0, false},
      {"\xFF", 0, 1, false},
  };
  for (const Case& wanted : cases) {
    const Utf8Scan scan = scan_utf8(wanted.text);
    EXPECT_EQ(scan.valid, wanted.valid) << wanted.text;
    EXPECT_EQ(scan.bad, wanted.bad) << wanted.text;
    EXPECT_EQ(scan.incomplete, wanted.incomplete) << wanted.text;
  }
}

TEST(Utf8, CutsBetweenCharacters) {
  const std::string text = "a\xC3\xA9z";
  EXPECT_EQ(character_boundary(text, 1), 1u);
  EXPECT_EQ(character_boundary(text, 2), 1u);
  EXPECT_EQ(character_boundary(text, 3), 3u);
  EXPECT_EQ(character_boundary(text, 9), 4u);
}

}  // namespace
}  // namespace sluice
