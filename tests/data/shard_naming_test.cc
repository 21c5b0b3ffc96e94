// A corpus whose naming was broken off: no reader takes a part of it for whole, and the rest is named later.
#include "data/shards/shard_naming.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/files/aside.h"
#include "base/files/files.h"
#include "data/temp_folder.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

class ShardNaming : public testing::Test {
 protected:
  fs::path written(size_t count) const {
    const fs::path aside = create_folder_aside(stem_);
    for (size_t i = 0; i < count; ++i) write_file_atomic(unnamed_shard(aside, i), std::to_string(i));
    return aside;
  }
  size_t entries() const {
    return size_t(std::distance(fs::directory_iterator(folder_.file("")), fs::directory_iterator()));
  }
  std::string refusal(const std::string& shard) const {
    return message_of<UserError>([&] { check_is_named("data.train_shards", folder_.file(shard)); });
  }

  TempFolder folder_;
  const std::string stem_ = folder_.file("docs");
};

TEST_F(ShardNaming, AllGetTheirNames) {
  const fs::path aside = written(3);
  const std::vector<std::string> names = name_shards(aside, stem_, 3, Json::object());
  ASSERT_EQ(names.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(read_file(names[i]), std::to_string(i));
  EXPECT_EQ(names[2], folder_.file("docs_00002.bin"));
  EXPECT_EQ(entries(), 3u) << "nothing is left aside";
  EXPECT_TRUE(finish_naming(stem_).is_null());
}

TEST_F(ShardNaming, ATakenNameIsFoundBeforeTheCorpusExists) {
  folder_.write("docs_00001.bin", "another command's");
  const fs::path aside = written(3);
  const std::string message = message_of<RunError>([&] { name_shards(aside, stem_, 3, Json::object()); });
  EXPECT_NE(message.find("docs_00001.bin is there meanwhile"), std::string::npos) << message;
  EXPECT_TRUE(fs::exists(unnamed_shard(aside, 2)));
  EXPECT_TRUE(finish_naming(stem_).is_null());
  EXPECT_EQ(refusal("docs_00001.bin"), "(nothing was thrown)");
  EXPECT_EQ(entries(), 2u);
}

TEST_F(ShardNaming, APartIsRefusedUntilTheRestIsNamed) {
  const fs::path aside = written(3);
  write_file_atomic(aside / "corpus.json", R"({"documents": 7, "shards": 3})");
  fs::rename(aside, folder_.file(".docs.sluice-whole"));  // where a kill left it
  folder_.write("docs_00000.bin", "mine");
  folder_.write("docs_more_00000.bin", "another corpus");
  const std::string message = message_of<RunError>([&] { finish_naming(stem_); });
  EXPECT_NE(message.find("docs_00000.bin is there meanwhile"), std::string::npos) << message;
  EXPECT_EQ(read_file(folder_.file("docs_00000.bin")), "mine");
  EXPECT_EQ(read_file(folder_.file("docs_00002.bin")), "2");
  const std::string refused = refusal("docs_00002.bin");
  EXPECT_NE(refused.find("docs_00002.bin is of a corpus of which some shards have no names yet"), std::string::npos)
      << refused;
  EXPECT_EQ(refusal("docs_more_00000.bin"), "(nothing was thrown)");
  EXPECT_EQ(refusal("docs.bin"), "(nothing was thrown)");

  fs::rename(folder_.file("docs_00000.bin"), folder_.file("mine"));
  const Json note = finish_naming(stem_);
  EXPECT_EQ(note.at("documents"), 7);
  EXPECT_EQ(note.at("shards"), 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(read_file(shard_name(stem_, i)), std::to_string(i));
  EXPECT_EQ(refusal("docs_00002.bin"), "(nothing was thrown)");
  EXPECT_EQ(entries(), 5u);
}

}  // namespace
}  // namespace sluice
