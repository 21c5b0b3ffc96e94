// Config files: the chain of bases.
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/config/config.h"
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

// The paths of the files that are read, the innermost first, and all that they say.
std::string chain_of(const std::string& path) {
  std::string text;
  for (const sluice::ConfigFile& file : read_config_files(path)) text += file.json.dump();
  return text;
}

TEST_F(ConfigFile, BasesAreRelativeToTheFileThatNamesThem) {
  write("root.json", R"({"seed": 1, "model": {"layers": 12, "width": 768}})");
  write("sub/middle.json", R"({"base": "../root.json", "model": {"layers": 6}})");
  const std::string top = write("top.json", R"({"base": "sub/middle.json", "$schema": "x", "model": {"heads": 4}})");
  EXPECT_EQ(chain_of(top),
            R"({"seed":1,"model":{"layers":12,"width":768}}{"model":{"layers":6}}{"model":{"heads":4}})");
  write("absolute.json", R"({"base": ")" + path("root.json") + R"("})");
  EXPECT_EQ(chain_of(path("absolute.json")), R"({"seed":1,"model":{"layers":12,"width":768}}{})");
}

TEST_F(ConfigFile, ALoopShowsTheChain) {
  write("a.json", R"({"base": "b.json"})");
  write("b.json", R"({"base": "sub/../a.json"})");
  EXPECT_EQ(user_error_of([&] { read_config_files(path("a.json")); }),
            "the base of a config leads back to itself: " + path("a.json") + " -> " + path("b.json") + " -> " +
                path("a.json"));
  write("self.json", R"({"base": "self.json"})");
  EXPECT_EQ(user_error_of([&] { read_config_files(path("self.json")); }),
            "the base of a config leads back to itself: " + path("self.json") + " -> " + path("self.json"));
}

TEST_F(ConfigFile, MissingAndWrongFilesAreNamed) {
  EXPECT_EQ(user_error_of([&] { read_config_files(path("none.json")); }),
            "cannot open " + path("none.json") + ": No such file or directory");
  write("a.json", R"({"base": "gone.json"})");
  EXPECT_EQ(user_error_of([&] { read_config_files(path("a.json")); }),
            path("a.json") + ": base names \"" + path("gone.json") +
                "\", which does not exist (config chain: " + path("a.json") + ")");
  write("b.json", R"({"base": 3})");
  EXPECT_EQ(user_error_of([&] { read_config_files(path("b.json")); }),
            path("b.json") + ": base must be the path of a config file, got 3");
  write("c.json", "[1]");
  EXPECT_EQ(user_error_of([&] { read_config_files(path("c.json")); }),
            path("c.json") + ": a config must be a JSON object, {...}");
  write("bad.json", "{\"a\": }");
  write("d.json", R"({"base": "bad.json"})");
  EXPECT_EQ(user_error_of([&] { read_config_files(path("d.json")); }),
            path("bad.json") + ":1:7: not valid JSON: '}' comes too early (a comma before it, or a value missing)");
}

}  // namespace
}  // namespace sluice
