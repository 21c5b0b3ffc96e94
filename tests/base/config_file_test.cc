// Config files: the chain of bases, merging and overrides.
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/config.h"
#include "base/error_text.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

class ConfigFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("sluice_config_" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "sub");
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return (folder_ / name).string();
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  fs::path folder_;
};

Json merged(const std::string& below, const std::string& above) {
  Json config = Json::parse(below);
  merge_config(config, Json::parse(above));
  return config;
}

Json overridden(const std::string& below, const std::string& assignment) {
  Json config = Json::parse(below);
  apply_override(config, assignment);
  return config;
}

TEST_F(ConfigFile, BasesAreRelativeToTheFileThatNamesThem) {
  write("root.json", R"({"seed": 1, "model": {"layers": 12, "width": 768}})");
  write("sub/middle.json", R"({"base": "../root.json", "model": {"layers": 6}})");
  const std::string top = write("top.json", R"({"base": "sub/middle.json", "$schema": "x", "model": {"heads": 4}})");
  EXPECT_EQ(read_config_chain(top).dump(), R"({"seed":1,"model":{"layers":6,"width":768,"heads":4}})");
  write("absolute.json", R"({"base": ")" + path("root.json") + R"("})");
  EXPECT_EQ(read_config_chain(path("absolute.json"))["seed"], 1);
}

TEST_F(ConfigFile, ALoopShowsTheChain) {
  write("a.json", R"({"base": "b.json"})");
  write("b.json", R"({"base": "sub/../a.json"})");
  EXPECT_EQ(user_error_of([&] { read_config_chain(path("a.json")); }),
            "the base of a config leads back to itself: " + path("a.json") + " -> " + path("b.json") + " -> " +
                path("a.json"));
  write("self.json", R"({"base": "self.json"})");
  EXPECT_EQ(user_error_of([&] { read_config_chain(path("self.json")); }),
            "the base of a config leads back to itself: " + path("self.json") + " -> " + path("self.json"));
}

TEST_F(ConfigFile, MissingAndWrongFilesAreNamed) {
  EXPECT_EQ(user_error_of([&] { read_config_chain(path("none.json")); }),
            "cannot open " + path("none.json") + ": No such file or directory");
  write("a.json", R"({"base": "gone.json"})");
  EXPECT_EQ(user_error_of([&] { read_config_chain(path("a.json")); }),
            path("a.json") + ": base names \"" + path("gone.json") +
                "\", which does not exist (config chain: " + path("a.json") + ")");
  write("b.json", R"({"base": 3})");
  EXPECT_EQ(user_error_of([&] { read_config_chain(path("b.json")); }),
            path("b.json") + ": base must be the path of a config file, got 3");
  write("c.json", "[1]");
  EXPECT_EQ(user_error_of([&] { read_config_chain(path("c.json")); }),
            path("c.json") + ": a config must be a JSON object, {...}");
  write("bad.json", "{\"a\": }");
  write("d.json", R"({"base": "bad.json"})");
  EXPECT_EQ(user_error_of([&] { read_config_chain(path("d.json")); }),
            path("bad.json") + ":1:7: not valid JSON: '}' comes too early (a comma before it, or a value missing)");
}

TEST(ConfigMerge, ObjectsMergeAndTheRestIsReplaced) {
  EXPECT_EQ(merged(R"({"a":{"x":1,"y":2},"l":[1,2]})", R"({"a":{"y":3,"z":4},"l":[5]})").dump(),
            R"({"a":{"x":1,"y":3,"z":4},"l":[5]})");
  EXPECT_EQ(merged(R"({"a":1})", R"({"a":{"x":1}})").dump(), R"({"a":{"x":1}})");
}

TEST(ConfigMerge, AnotherTypeReplacesTheWholeObject) {
  EXPECT_EQ(merged(R"({"o":{"type":"adamw","betas":[0.9,0.99],"lr":1}})", R"({"o":{"type":"sgd","lr":2}})").dump(),
            R"({"o":{"type":"sgd","lr":2}})");
  EXPECT_EQ(merged(R"({"o":{"type":"sgd","lr":1}})", R"({"o":{"type":"sgd","momentum":2}})").dump(),
            R"({"o":{"type":"sgd","lr":1,"momentum":2}})");
  EXPECT_EQ(merged(R"({"o":{"score":"relu"}})", R"({"o":{"type":"vga"}})").dump(), R"({"o":{"type":"vga"}})");
  EXPECT_EQ(merged(R"({"o":{"type":"vga","site":"source"}})", R"({"o":"vga"})").dump(), R"({"o":"vga"})");
}

TEST(ConfigMerge, AStringBelowAnObjectIsItsType) {
  EXPECT_EQ(merged(R"({"o":"vga"})", R"({"o":{"site":"source"}})").dump(), R"({"o":{"type":"vga","site":"source"}})");
  EXPECT_EQ(merged(R"({"o":"vga"})", R"({"o":{"type":"softmax"}})").dump(), R"({"o":{"type":"softmax"}})");
}

TEST(ConfigOverride, ValuesAreJsonOrElseStrings) {
  EXPECT_EQ(overridden(R"({"train":{"steps":1,"batch":2}})", "train.steps=100").dump(),
            R"({"train":{"steps":100,"batch":2}})");
  EXPECT_EQ(overridden("{}", "a.b.c=3e-4").dump(), R"({"a":{"b":{"c":0.0003}}})");
  EXPECT_EQ(overridden("{}", "name=bb-vga").dump(), R"({"name":"bb-vga"})");
  EXPECT_EQ(overridden("{}", "name=\"7\"").dump(), R"({"name":"7"})");
  EXPECT_EQ(overridden("{}", "name=").dump(), R"({"name":""})");
  EXPECT_EQ(overridden("{}", "path=a=b").dump(), R"({"path":"a=b"})");
  EXPECT_EQ(overridden("{}", "x=true").dump(), R"({"x":true})");
  EXPECT_EQ(overridden("{}", "betas=[0.9, 0.95]").dump(), R"({"betas":[0.9,0.95]})");
  EXPECT_EQ(overridden("{}", "lr=nan").dump(), R"({"lr":"nan"})");
}

TEST(ConfigOverride, GoesThroughAStringShorthand) {
  EXPECT_EQ(overridden(R"({"model":{"attention":"vga"}})", "model.attention.site=source").dump(),
            R"({"model":{"attention":{"type":"vga","site":"source"}}})");
}

TEST(ConfigOverride, RefusesWhatIsNoAssignment) {
  for (const char* text : {"steps", "=1", ".a=1", "a.=1", "a..b=1", ""}) {
    EXPECT_EQ(user_error_of([&] { overridden("{}", text); }),
              fmt::format("--set takes key=value with a dotted key, such as train.steps=100, got \"{}\"", text));
  }
  EXPECT_EQ(user_error_of([] { overridden("{}", "betas=[0.9,"); }),
            "--set betas=[0.9,:1:6: not valid JSON: the text ends too early (a bracket or a quote is not closed)");
}

}  // namespace
}  // namespace sluice
