// The text of a line of JSON: what is taken, what is at fault and how it is told.
#include "data/text/json_line.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

std::string text_of(const std::string& line, const std::string& field = "text", bool replace = false) {
  std::string text;
  const JsonLine json = read_json_line(line, field, replace, text);
  return json.fault == BadText::kNone ? text : "FAULT " + json.reason;
}

BadText fault_of(const std::string& line, const std::string& field = "text") {
  std::string text;
  return read_json_line(line, field, false, text).fault;
}

TEST(JsonLine, OnlyTheFieldCounts) {
  for (const char* value :
       {"NaN", "Infinity", "-Infinity", "1e999", "-0.0e-0", "123456789012345678901234567890", "0.5E+7",
        "[1, [2, {}], []]", "{\"text\": \"inner\"}", "\"\\ud83d\"", "null", "true", "false"}) {
    EXPECT_EQ(text_of(std::string("{\"x\":") + value + ", \"text\":\"a\"}"), "a") << value;
    EXPECT_EQ(text_of(std::string("{\"text\" : \"a\" ,\"x\" : ") + value + " }"), "a") << value;
  }
  EXPECT_EQ(text_of(R"({"id":1,"id":2,"text":"a"})"), "a");
  const std::string deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  EXPECT_EQ(text_of("{\"x\":" + deep + ",\"text\":\"a\"}"), "a");
  EXPECT_EQ(fault_of("{\"x\":" + std::string(1'000'000, '[') + ",\"text\":\"a\"}"), BadText::kNotJson);
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_EQ(fault_of(objects), BadText::kNotJson);
}

TEST(JsonLine, Escapes) {
  EXPECT_EQ(text_of(R"({"text":"a\n\t\r\b\f\/\\\"z"})"), "a\n\t\r\b\f/\\\"z");
  EXPECT_EQ(text_of(R"({"text":"\u0041\u00e9\u20AC\ud83d\ude00"})"), "A\u00e9\u20ac\U0001F600");
  EXPECT_EQ(text_of(R"({"text":"\u0000"})"), std::string(1, '\0'));
  EXPECT_EQ(text_of(R"({"te\u0078t":"a"})"), "a");
  EXPECT_EQ(text_of("{\"text\":\"\"}"), "");
}

TEST(JsonLine, SurrogatesWithoutTheirOtherHalf) {
  for (const char* escape : {R"(\ud83d)", R"(\udcb2)", R"(\ud83d\u0041)", R"(\ud83d\n)", R"(\ude00\ud83d)"}) {
    EXPECT_EQ(fault_of(std::string("{\"text\":\"x") + escape + "\"}"), BadText::kSurrogate) << escape;
  }
  EXPECT_EQ(
      text_of(R"({"text":"x \uDCB2 y"})"),
      "FAULT \"text\" has the surrogate \\udcb2 without its other half, which is no character; --invalid replace puts "
      "U+FFFD there, --skip-bad leaves such lines out");
  EXPECT_EQ(text_of(R"({"text":"x \ud83d y\ud83d\ude00 \ud83d\ud83d\ude00"})", "text", true),
            "x \uFFFD y\U0001F600 \uFFFD\U0001F600");
  std::string text;
  EXPECT_EQ(read_json_line(R"({"text":"\ud83d \udcb2"})", "text", true, text).replaced, 2u);
}

TEST(JsonLine, NestedFields) {
  EXPECT_EQ(text_of(R"({"a":{"b":"x"}})", "a.b"), "x");
  EXPECT_EQ(text_of(R"({"a.b":"x"})", "a.b"), "x");
  EXPECT_EQ(text_of(R"({"a":{"b":"nested"},"a.b":"literal"})", "a.b"), "literal");
  EXPECT_EQ(text_of(R"({"a.b":"literal","a":{"b":"nested"}})", "a.b"), "literal");
  EXPECT_EQ(text_of(R"({"a":{"b.c":{"d":"x"}}})", "a.b.c.d"), "x");
  EXPECT_EQ(text_of(R"({"a":3,"b":{"a":{"b":"no"}}})", "a.b"),
            "FAULT there is no \"a.b\" in this line, which has \"a\", \"b\"; --field names where the text is");
  EXPECT_EQ(fault_of(R"({"a":{"b":null}})", "a.b"), BadText::kNull);
  EXPECT_EQ(fault_of(R"({"a":{"c":1}})", "a.b"), BadText::kMissing);
}

TEST(JsonLine, Faults) {
  const std::string advice = "; --skip-bad leaves such lines out, --field names another key";
  EXPECT_EQ(text_of(R"({"text":null})"), "FAULT \"text\" is null in this line, not a string" + advice);
  EXPECT_EQ(text_of(R"({"text":["a"]})"), "FAULT \"text\" is a list in this line, not a string" + advice);
  EXPECT_EQ(text_of(R"({"text":{}})"), "FAULT \"text\" is an object in this line, not a string" + advice);
  EXPECT_EQ(text_of(R"({"text":-3})"), "FAULT \"text\" is a number in this line, not a string" + advice);
  EXPECT_EQ(text_of(R"({"text":true})"), "FAULT \"text\" is true or false in this line, not a string" + advice);
  EXPECT_EQ(text_of("{}"),
            "FAULT there is no \"text\" in this line, which has no keys; --field names where the text is");
  EXPECT_EQ(text_of(R"([{"text":"a"}])"), "FAULT this line is a list, not an object with a \"text\"");
  EXPECT_EQ(text_of(R"("text")"), "FAULT this line is a string, not an object with a \"text\"");
  EXPECT_EQ(text_of(R"({"text":"a","text":"b"})"), "FAULT not valid JSON: the key \"text\" stands there twice");
  EXPECT_EQ(fault_of(R"({"text":3})"), BadText::kNoString);
  EXPECT_EQ(fault_of("3"), BadText::kNoObject);
}

TEST(JsonLine, TheGrammarIsChecked) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"text":"a")", "column 12: the line ends within the JSON value"},
      {R"({"text":"a"}})", "column 13: text after the end of the JSON value"},
      {R"({"text":"a"} {"text":"b"})", "column 14: text after the end of the JSON value"},
      {R"({"text":"a",})", "column 13: a key in quotes is missing"},
      {R"({"text" "a"})", "column 9: the colon behind a key is missing"},
      {R"({"x":[1,],"text":"a"})", "column 9: a value is missing"},
      {R"({"x":[1 2],"text":"a"})", "column 9: a comma or ']' is missing"},
      {R"({"x":{"a":1 "b":2},"text":"a"})", "column 13: a comma or '}' is missing"},
      {R"({"x":01,"text":"a"})", "column 7: a comma or '}' is missing"},
      {R"({"x":1.,"text":"a"})", "column 8: a number is not complete"},
      {R"({"x":-,"text":"a"})", "column 7: a number is not complete"},
      {R"({"x":nan,"text":"a"})", "column 6: a value is missing"},
      {R"({"x":'a',"text":"a"})", "column 6: a value is missing"},
      {R"({"text":"a\q"})", "column 11: this escape is none that JSON knows"},
      {R"({"text":"a\u12g4"})", "column 15: \\u wants four hexadecimal digits"},
      {R"({"text":"a)", "column 9: the string that begins here is not closed"},
      {"{\"text\":\"\xC3\xA9\x01\"}", "column 11: the control character 0x01 stands in a string without an escape"},
      {"{", "column 2: the line ends within the JSON value"},
      {"", "column 1: the line ends within the JSON value"},
      {"some words", "column 1: a value is missing"},
  };
  for (const auto& [line, reason] : cases) {
    EXPECT_EQ(text_of(line), "FAULT not valid JSON at " + std::string(reason)) << line;
    EXPECT_FALSE(is_json_object(line));
  }
  EXPECT_TRUE(is_json_object(R"( {"a":[1,{"b":NaN}]} )"));
  EXPECT_FALSE(is_json_object("[1]"));
}

}  // namespace
}  // namespace sluice
