// Every type in the place of every other gives a sentence of our own.
#include "base/config/json_reader.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "base/config/json_text.h"
#include "base/error_text.h"
#include "base/limits.h"

namespace sluice {
namespace {

TEST(JsonReader, ReadsWhatIsThere) {
  const Json json =
      parse_json(R"({"i": -5, "u": 18446744073709551615, "x": 2.5, "t": "a", "l": [1], "o": {"n": 1}})", "f");
  const JsonReader reader(json, "f");
  EXPECT_EQ(reader.integer("i"), -5);
  EXPECT_EQ(reader.number("x"), 2.5);
  EXPECT_EQ(reader.number("i"), -5);
  EXPECT_EQ(reader.text("t"), "a");
  EXPECT_EQ(reader.list("l").size(), 1u);
  EXPECT_EQ(reader.object("o").integer("n", 1), 1);
  EXPECT_TRUE(reader.has("l"));
  EXPECT_FALSE(reader.has("m"));
}

TEST(JsonReader, SaysWhatAndWhere) {
  const Json json =
      parse_json(R"({"i": -5, "u": 18446744073709551615, "x": 2.5, "t": "a", "l": [1], "o": {"n": 1}})", "f");
  const JsonReader reader(json, "run/state.json");
  const auto said = [](auto call) { return user_error_of(call); };
  EXPECT_EQ(said([&] { reader.integer("i", 0); }),
            "run/state.json: i must be an integer of at least 0, got the number -5");
  EXPECT_EQ(said([&] { reader.integer("u"); }),
            "run/state.json: u must be an integer of 64 bits, got the number 18446744073709551615");
  EXPECT_EQ(said([&] { reader.integer("x"); }), "run/state.json: x must be an integer of 64 bits, got the number 2.5");
  EXPECT_EQ(said([&] { reader.number("t"); }), "run/state.json: t must be a number, got the string \"a\"");
  EXPECT_EQ(said([&] { reader.text("l"); }), "run/state.json: l must be a string, got a list");
  EXPECT_EQ(said([&] { reader.list("o"); }), "run/state.json: o must be a list, got an object");
  EXPECT_EQ(said([&] { reader.object("t"); }), "run/state.json: t must be an object, got the string \"a\"");
  EXPECT_EQ(said([&] { reader.object("o").text("n"); }), "run/state.json: o.n must be a string, got the number 1");
  EXPECT_EQ(said([&] { reader.integer("none", 0); }),
            "run/state.json: none is missing; it must be an integer of at least 0");
  EXPECT_EQ(said([&] { JsonReader(json["l"], "f"); }), "f: a JSON object is expected, got a list");
}

TEST(JsonReader, ValuesInMessagesAreShort) {
  EXPECT_EQ(excerpt("abc", 3), "abc");
  EXPECT_EQ(excerpt("abcd", 3), "abc...");
  EXPECT_EQ(excerpt("ab\xC3\xA9", 3), "ab...") << "a character is not divided";
  EXPECT_LE(shown(Json(std::string(1'000'000, 'x'))).size(), kMostQuoted + 20);
  EXPECT_EQ(shown(Json()), "null");
  EXPECT_EQ(shown(Json(true)), "true");
}

TEST(JsonReader, KeysOfAllObjectsAreCounted) {
  Json json = Json::object();
  auto& members = json.get_ref<Json::object_t&>();
  for (size_t i = 0; i < kMostConfigKeys; ++i) members.emplace_back("k" + std::to_string(i), 1);
  EXPECT_EQ(user_error_of([&] { check_key_count(json, "f"); }), "");
  members.back().second = Json{{"one", "more"}};
  EXPECT_EQ(
      user_error_of([&] { check_key_count(json, "f"); }),
      fmt::format("f: it has {} keys, but a config or sweep has at most {}", kMostConfigKeys + 1, kMostConfigKeys));
}

// A key of a group is kept with the group's own, which may be as long as a file.
TEST(JsonReader, KeysAreCountedWithTheGroupsAroundThem) {
  const auto grouped = [](size_t members, size_t length) {
    Json group = Json::object();
    for (size_t i = 0; i < members; ++i) group.get_ref<Json::object_t&>().emplace_back(fmt::format("{:04}", i), 1);
    return Json{{"a", Json::array({Json{{std::string(length, 'g'), group}}})}};
  };
  EXPECT_EQ(user_error_of([&] { check_key_count(grouped(1, 8'000'000), "f"); }), "");
  EXPECT_EQ(
      user_error_of([&] { check_key_count(grouped(1000, 20'000), "f"); }),
      "f: its keys, each written with the groups that it lies in, have 20.0 MB, but those of a config or sweep have at "
      "most 16.8 MB");
}

// A reader whose time grows with the square would take minutes for the larger one.
TEST(JsonText, TimeGrowsWithTheTextsSize) {
  const auto seconds = [](size_t keys) {
    std::string text = "{";
    for (size_t i = 0; i < keys; ++i) text += fmt::format("{}\"k{}\":[{}]", i == 0 ? "" : ",", i, i);
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(parse_json(text + "}", "f").size(), keys);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  EXPECT_LT(seconds(400'000), 20);
}

}  // namespace
}  // namespace sluice
