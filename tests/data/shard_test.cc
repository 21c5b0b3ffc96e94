// A shard whose file is cut or overwritten while it is open is an error with its name, and never a signal.
#include "data/shards/shard.h"

#include <chrono>
#include <filesystem>
#include <numeric>

#include <sys/resource.h>

#include <gtest/gtest.h>

#include "base/files/files.h"
#include "data/llmc_shard.h"
#include "data/temp_folder.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTokens = 5000;

class ShardTest : public testing::Test {
 protected:
  std::string write(const std::string& name, uint16_t first = 0) const {
    std::vector<uint16_t> tokens(size_t(kTokens), 0);
    std::iota(tokens.begin(), tokens.end(), first);
    write_llmc_shard<uint16_t>(folder_.file(name), tokens);
    return folder_.file(name);
  }
  std::string write_sluice(const std::string& name, int32_t first) const {
    std::vector<int32_t> tokens(size_t(kTokens), 0);
    std::iota(tokens.begin(), tokens.end(), first);
    ShardWriter writer(folder_.file(name), 4, 100000, "test", 1);
    writer.append_document(tokens);
    writer.finish();
    return folder_.file(name);
  }
  static std::vector<int32_t> read(const Shard& shard, int64_t start, int64_t count) {
    std::vector<int32_t> out(static_cast<size_t>(count));
    shard.copy(start, count, out.data());
    return out;
  }
  // The file's bytes become those of `other`, in place.
  static void overwrite(const std::string& path, const std::string& other) {
    const std::string bytes = read_file(other);
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    later(path);
  }
  // A time that a file gets by a write some moments later.
  static void later(const std::string& path) {
    fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds(1));
  }
  static std::string failure(const Shard& shard, int64_t start = 0) {
    return message_of<ShardFailed>([&] { read(shard, start, 10); });
  }

  TempFolder folder_;
};

TEST_F(ShardTest, ReadsWhatIsThere) {
  const Shard shard(write("a.bin"), "key");
  EXPECT_EQ(read(shard, 4990, 10), (std::vector<int32_t>{4990, 4991, 4992, 4993, 4994, 4995, 4996, 4997, 4998, 4999}));
  std::vector<int32_t> out(3);
  EXPECT_EQ(shard.copy(7, 3, out.data()), 9) << "the largest of them";
  EXPECT_EQ(shard.largest(0, kTokens), kTokens - 1);
  EXPECT_EQ(shard.largest(3, 0), -1);
}

TEST_F(ShardTest, StretchesLongerThanABlockAreWhole) {
  std::vector<uint16_t> tokens(200000);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = uint16_t(i * 7 % 50021);
  tokens[150000] = 60000;
  write_llmc_shard<uint16_t>(folder_.file("long.bin"), tokens);
  Shard shard(folder_.file("long.bin"), "key");
  const std::vector<int32_t> all = read(shard, 0, int64_t(tokens.size()));
  EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), all.begin()));
  EXPECT_EQ(shard.largest(100, 199000), 60000);
  shard.find_documents(60000, true, "key");
  EXPECT_EQ(std::vector<uint64_t>(shard.documents().begin(), shard.documents().end()),
            (std::vector<uint64_t>{0, 150000}));
}

TEST_F(ShardTest, ACutFileIsNamed) {
  const std::string path = write("a.bin");
  const Shard shard(path, "key");
  fs::resize_file(path, 1024 + 200);
  const std::string sentence = path + " has 1224 bytes now, but had 11024 when it was opened";
  EXPECT_NE(failure(shard, 4000).find(sentence), std::string::npos) << failure(shard, 4000);
  EXPECT_NE(failure(shard, 0).find(sentence), std::string::npos) << "what is left counts no more";
  fs::resize_file(path, 0);
  EXPECT_NE(failure(shard).find("has 0 bytes now"), std::string::npos) << failure(shard);
  EXPECT_NE(message_of<ShardFailed>([&] { shard.largest(0, kTokens); }).find(path), std::string::npos);
  EXPECT_NE(message_of<ShardFailed>([&] { shard.stored(0, 5); }).find(path), std::string::npos);
}

TEST_F(ShardTest, OtherContentsInPlaceAreNoticed) {
  const std::string other = write("other.bin", 3), path = write("a.bin");
  const Shard shard(path, "key");
  overwrite(path, other);
  EXPECT_NE(failure(shard).find(path + " has other contents than when it was opened"), std::string::npos)
      << failure(shard);
}

TEST_F(ShardTest, AnotherShardOfTheSameSizeIsNoticedByItsHeader) {
  const std::string path = write_sluice("a.bin", 0);
  const Shard shard(path, "key");
  std::string bytes = read_file(path);
  overwrite(path, write_sluice("other.bin", 1));
  EXPECT_NE(failure(shard, 100).find("other contents"), std::string::npos);
}

TEST_F(ShardTest, TheSameBytesWithANewTimeAreFine) {
  const std::string path = write("a.bin"), same = write("same.bin");
  const Shard shard(path, "key");
  later(path);
  EXPECT_EQ(read(shard, 5, 1), std::vector<int32_t>{5});
  overwrite(path, same);
  EXPECT_EQ(read(shard, 6, 1), std::vector<int32_t>{6});
}

TEST_F(ShardTest, AFileRenamedOverItOrRemovedChangesNothing) {
  const std::string path = write("a.bin"), other = write("other.bin", 100);
  const Shard shard(path, "key");
  fs::rename(other, path);
  EXPECT_EQ(read(shard, 5, 1), std::vector<int32_t>{5});
  fs::remove(path);
  EXPECT_EQ(read(shard, 4999, 1), std::vector<int32_t>{4999});
}

TEST_F(ShardTest, MoreShardsThanOpenFilesByDefault) {
  rlimit former{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &former), 0);
  const rlimit few{64, former.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const std::string path = write("a.bin");
  std::vector<std::unique_ptr<Shard>> shards;
  EXPECT_NO_THROW(for (int i = 0; i < 100; ++i) shards.push_back(std::make_unique<Shard>(path, "key")));
  setrlimit(RLIMIT_NOFILE, &former);
}

}  // namespace
}  // namespace sluice
