// Strict JSON: one sentence with file, line and column for everything the grammar forbids.
#include "base/config/json_text.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error_text.h"

namespace sluice {
namespace {

std::string error_in(const std::string& text) {
  return user_error_of([&] { parse_json(text, "a.json"); });
}

TEST(JsonText, ReadsEveryKindOfValueAndKeepsTheOrderOfKeys) {
  const std::string text = R"({"z":[1,-2,0.5,1e-3,true,null,"a\n\u00e9"],"a":{"b":[]},"c":18446744073709551615})";
  EXPECT_EQ(parse_json(text, "t").dump(),
            R"({"z":[1,-2,0.5,0.001,true,null,"a\né"],"a":{"b":[]},"c":18446744073709551615})");
  EXPECT_EQ(parse_json(" 7 \n", "t"), 7);
  EXPECT_EQ(parse_json("[{\"a\":1},{\"a\":2}]", "t").dump(), "[{\"a\":1},{\"a\":2}]");
}

TEST(JsonText, ErrorsNameFileLineColumnAndReason) {
  struct Case {
    std::string text, message;
  };
  const std::vector<Case> cases = {
      {"{\"a\": 1,\n \"b\": 2,\n \"a\": 3}", "a.json:3:2: not valid JSON: the key \"a\" stands here a second time"},
      {"{\"a\": {\"b\": 1, \"b\": 2}}", "a.json:1:16: not valid JSON: the key \"b\" stands here a second time"},
      {"{\"a\": NaN}", "a.json:1:7: not valid JSON: JSON has no NaN or infinity"},
      {"{\"a\": Infinity}", "a.json:1:7: not valid JSON: JSON has no NaN or infinity"},
      {"{\"a\": -Infinity}", "a.json:1:7: not valid JSON: JSON has no NaN or infinity"},
      {"{\"a\": nan}", "a.json:1:7: not valid JSON: JSON has no NaN or infinity"},
      {"{\"a\": 1e999}", "a.json:1:7: not valid JSON: this number is too large for a double"},
      {"{\"a\": 1}\n}", "a.json:2:1: not valid JSON: text after the end of the JSON value"},
      {"{} x", "a.json:1:4: not valid JSON: text after the end of the JSON value"},
      {"{\n  // layers\n  \"a\": 1}", "a.json:2:3: not valid JSON: JSON has no comments"},
      {"{\"a\": 1 /* one */}", "a.json:1:9: not valid JSON: JSON has no comments"},
      {"# a\n{}", "a.json:1:1: not valid JSON: JSON has no comments"},
      {"{\"a\": 1,}", "a.json:1:9: not valid JSON: '}' comes too early (a comma before it, or a value missing)"},
      {"{\"a\": [1,]}", "a.json:1:10: not valid JSON: ']' comes too early (a comma before it, or a value missing)"},
      {"{'a': 1}", "a.json:1:2: not valid JSON: JSON strings take double quotes"},
      {"{\"a\": True}", "a.json:1:7: not valid JSON: JSON writes true, false and null"},
      {"{a: 1}", "a.json:1:2: not valid JSON: unexpected \"a\""},
      {"{\"a\" 1}", "a.json:1:6: not valid JSON: unexpected \"1\""},
      {"{\"a\": 1 \"b\": 2}", "a.json:1:9: not valid JSON: unexpected \"\"b\"\""},
      {"{\"a\": \"x\n\"}", "a.json:1:9: not valid JSON: the string here is not closed, or has a bad escape"},
      {"{\"a\": [1, 2", "a.json:1:12: not valid JSON: the text ends too early (a bracket or a quote is not closed)"},
      {"", "a.json:1:1: not valid JSON: the text ends too early (a bracket or a quote is not closed)"},
  };
  for (const Case& c : cases) EXPECT_EQ(error_in(c.text), c.message) << c.text;
}

TEST(JsonText, TheSameKeyInTwoObjectsIsFine) { EXPECT_EQ(error_in(R"({"a": {"x": 1}, "b": {"x": 1}, "x": 1})"), ""); }

TEST(JsonText, NestingHasALimit) {
  const auto nested = [](int depth) { return std::string(size_t(depth), '[') + std::string(size_t(depth), ']'); };
  EXPECT_EQ(error_in(nested(kMaxJsonDepth)), "");
  EXPECT_EQ(error_in(nested(kMaxJsonDepth + 1)), "a.json:1:201: not valid JSON: more than 200 brackets are open here");
  const std::string more = "not valid JSON: more than 200 brackets are open here";
  EXPECT_EQ(error_in("{\"x\":\n" + nested(100000) + "}"), "a.json:2:200: " + more);
  EXPECT_EQ(error_in(std::string(5000000, '[')), "a.json:1:201: " + more);
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_EQ(error_in(objects), "a.json:1:1001: " + more);
}

std::string lenient(const std::string& text) {
  return parse_json(text, "a.json", {.non_finite = true, .replace_surrogates = true}).dump();
}

TEST(JsonText, WhatPythonWritesBeyondJsonIsReadWhereAskedFor) {
  EXPECT_EQ(lenient(R"({"a":NaN,"b":[Infinity,-Infinity , 1e999,-1e999,1e5],"c":"NaN, 1e999"})"),
            R"({"a":null,"b":[null,null,null,null,100000.0],"c":"NaN, 1e999"})");
  EXPECT_EQ(lenient("[" + std::string(400, '9') + ",1]"), "[null,1]");
  EXPECT_EQ(lenient(R"(["a \ud83d b","\udcb2","\ud83d\ude00","\\ud83d","\ud83d\ud83d\ude00"])"),
            "[\"a \uFFFD b\",\"\uFFFD\",\"\U0001F600\",\"\\\\ud83d\",\"\uFFFD\U0001F600\"]");
}

TEST(JsonText, WhatIsReadBeyondJsonIsNoExcuseForAnythingElse) {
  const auto error = [](const std::string& text) {
    return user_error_of([&] { parse_json(text, "a.json", {.non_finite = true, .replace_surrogates = true}); });
  };
  EXPECT_EQ(error("{\"a\": NaN, \"b\": -Infinity,\n \"c\": Infinity, \"d\": x}"),
            "a.json:2:22: not valid JSON: unexpected \"x\"");
  EXPECT_EQ(error("[NaN, nan]"), "a.json:1:7: not valid JSON: JSON has no NaN or infinity");
  EXPECT_EQ(error("[NaN, 01e999]").substr(0, 11), "a.json:1:7:");
  EXPECT_EQ(error("[NaN, \"\\ud83\"]"),
            "a.json:1:13: not valid JSON: the string here is not closed, or has a bad escape");
  EXPECT_NE(error("[NaN, \"open \\u"), "");
}

TEST(JsonText, ALoneSurrogateIsNamed) {
  EXPECT_NE(error_in("{\"a\": \"x \\ud83d y\"}").find("a lone surrogate"), std::string::npos);
  EXPECT_NE(error_in("{\"a\": \"x \\udcb2 y\"}").find("a lone surrogate"), std::string::npos);
}

TEST(JsonText, UnreadableFilesAreNamed) {
  EXPECT_EQ(user_error_of([] { read_json_file("tests/base/no_such.json"); }),
            "cannot open tests/base/no_such.json: No such file or directory");
  EXPECT_EQ(user_error_of([] { read_json_file("tests"); }), "cannot read tests: it is a folder, but must be a file");
}

TEST(JsonText, DeepNestingDoesNotOverflowTheStack) {
  const std::string deep(200000, '[');
  EXPECT_NE(error_in(deep), "");
}

}  // namespace
}  // namespace sluice
