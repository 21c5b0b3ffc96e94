// Strict JSON: one sentence with file, line and column for everything the grammar forbids.
#include "base/json_text.h"

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

TEST(JsonText, UnreadableFilesAreNamed) {
  EXPECT_EQ(user_error_of([] { read_json_file("tests/base/no_such.json"); }),
            "cannot read \"tests/base/no_such.json\": No such file or directory");
  EXPECT_EQ(user_error_of([] { read_json_file("tests"); }), "cannot read \"tests\": it is a folder, not a file");
}

TEST(JsonText, DeepNestingDoesNotOverflowTheStack) {
  const std::string deep(200000, '[');
  EXPECT_NE(error_in(deep), "");
}

}  // namespace
}  // namespace sluice
