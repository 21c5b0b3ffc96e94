// Text on its way to a terminal.
#include "base/console.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(Console, HarmlessTextStaysAsItIs) {
  for (const char* text : {"", "runs/vga", "größer 模型 😀", "a\\nb", "50 % – «x»", "e\xCC\x81"})
    EXPECT_EQ(harmless(text), text);
}

TEST(Console, WhatMovesTheCursorIsSpelledOut) {
  EXPECT_EQ(harmless("a\nb\r\tc"), "a\\nb\\r\\tc");
  EXPECT_EQ(harmless("\x1b[31mred\x07"), "\\x1b[31mred\\x07");
  EXPECT_EQ(harmless(std::string("\0\x7f", 2)), "\\x00\\x7f");
  EXPECT_EQ(harmless("\xC2\x9B"
                     "2J"),
            "\\u009b2J")
      << "the same as ESC [ in eight bits";
  EXPECT_EQ(harmless("\xE2\x80\xAE"
                     "cba"),
            "\\u202ecba");
  EXPECT_EQ(harmless("\xE2\x81\xA6"), "\\u2066");
  EXPECT_EQ(harmless("\xE2\x80\xA8"), "\\u2028");
}

TEST(Console, BytesThatAreNoUtf8AreSpelledOut) {
  EXPECT_EQ(harmless("a\xFFz"), "a\\xffz");
  EXPECT_EQ(harmless("\xC3"), "\\xc3");
  EXPECT_EQ(harmless("\xED\xA0\x80"), "\\xed\\xa0\\x80") << "a surrogate";
  EXPECT_EQ(harmless("\x9B"), "\\x9b");
  EXPECT_EQ(harmless("\xEF\xBF\xBD"), "\xEF\xBF\xBD") << "a replacement character that is meant";
}

TEST(Console, LinesStayLines) {
  EXPECT_EQ(harmless_lines("a\x1b\n\nb\r\n"), "a\\x1b\n\nb\\r\n");
  EXPECT_EQ(harmless_lines("a\nb"), "a\nb");
  EXPECT_EQ(harmless_lines(""), "");
}

TEST(Console, WidthCountsColumns) {
  EXPECT_EQ(display_width("vga"), 3u);
  EXPECT_EQ(display_width("größer"), 6u);
  EXPECT_EQ(display_width("模型"), 4u);
  EXPECT_EQ(display_width("e\xCC\x81"), 1u);
  EXPECT_EQ(display_width("😀"), 2u);
}

TEST(Console, FittedTextTakesAtMostItsColumns) {
  EXPECT_EQ(fitted("softmax", 7), "softmax");
  EXPECT_EQ(fitted("softmax", 6), "softm…");
  EXPECT_EQ(fitted("softmax", 1), "…");
  EXPECT_EQ(fitted("softmax", 0), "");
  EXPECT_EQ(fitted("größer", 4), "grö…");
  EXPECT_EQ(fitted("模型模型", 6), "模型…") << "half a character is not shown";
  EXPECT_EQ(fitted("模a", 3), "模a");
  for (size_t columns = 0; columns < 12; ++columns) EXPECT_LE(display_width(fitted("模型😀größer", columns)), columns);
}

}  // namespace
}  // namespace sluice
