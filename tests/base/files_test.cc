// Whole files: what is written is there, and what could not be written leaves no trace.
#include "base/files/files.h"

#include <filesystem>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "base/error.h"
#include "data/temp_folder.h"
#include "train/failures.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

size_t entries(const std::string& folder) {
  return size_t(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// While one lives no file or folder can be opened, so that names can be given but not synced.
class NoDescriptors {
 public:
  NoDescriptors() {
    getrlimit(RLIMIT_NOFILE, &former_);
    rlimit none = former_;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoDescriptors() { setrlimit(RLIMIT_NOFILE, &former_); }

 private:
  rlimit former_{};
};

TEST(Files, ANameThatCannotBeSyncedIsTakenBack) {
  const TempFolder folder;
  fs::create_directory(folder.file("new"));
  fs::create_directory(folder.file("old"));
  folder.write("new/a", "new");
  folder.write("old/b", "old");
  // The sanitizer looks at an error's type the first time that there is one, through a pipe.
  EXPECT_THROW(throw RunError("the first"), RunError);
  {
    const NoDescriptors none;
    EXPECT_THROW(rename_durably(folder.file("new"), folder.file("free")), RunError);
  }
  EXPECT_FALSE(fs::exists(folder.file("free")));
  {
    const NoDescriptors none;
    EXPECT_THROW(replace_durably(folder.file("new"), folder.file("old")), RunError);
  }
  EXPECT_EQ(read_file(folder.file("new/a")), "new");
  EXPECT_EQ(read_file(folder.file("old/b")), "old");
  EXPECT_EQ(entries(folder.file("")), 2u);
}

TEST(Files, WhatIsMovedQuietlyReplacesNothing) {
  const TempFolder folder;
  folder.write("a", "a");
  folder.write("b", "b");
  fs::create_symlink("nowhere", folder.file("link"));
  EXPECT_FALSE(move_quietly(folder.file("a"), folder.file("b")));
  EXPECT_FALSE(move_quietly(folder.file("a"), folder.file("link")));
  EXPECT_FALSE(move_quietly(folder.file("missing"), folder.file("c")));
  EXPECT_EQ(read_file(folder.file("b")), "b");
  EXPECT_TRUE(move_quietly(folder.file("a"), folder.file("c")));
  EXPECT_EQ(read_file(folder.file("c")), "a");
}

// The folder's own name while it is written has been given by nobody, and says nothing to anybody.
TEST(Files, MessagesOfAFolderHaveItsName) {
  const TempFolder folder;
  const std::string target = folder.file("a");
  FolderWriter writer(target);
  const auto message = [&](const auto& error) {
    return message_of<std::exception>(
        [&] { writer.finish_with([&](const fs::path& path) { throw error(path / "file"); }); });
  };
  const std::string wanted = "cannot write " + target + "/file";
  EXPECT_EQ(message([](const fs::path& path) { return RunError("cannot write {}", path.string()); }), wanted);
  EXPECT_EQ(message([](const fs::path& path) { return UserError("cannot write {}", path.string()); }), wanted);
  const auto full = std::make_error_code(std::errc::no_space_on_device);
  EXPECT_EQ(message([&](const fs::path& path) { return fs::filesystem_error("x", path, full); }),
            "cannot use " + target + "/file: No space left on device");
  EXPECT_FALSE(fs::exists(target));
  writer.finish_with([](const fs::path& path) { write_file_atomic(path / "file", "text"); });
  EXPECT_EQ(read_file(target + "/file"), "text");
}

TEST(Files, AtomicWriteReplacesTheWholeFile) {
  const TempFolder folder;
  const std::string path = folder.file("a.json");
  write_file_atomic(path, "a longer first text");
  write_file_atomic(path, "second");
  EXPECT_EQ(read_file(path), "second");
  EXPECT_EQ(entries(folder.file("")), 1u) << "nothing is left aside";
}

TEST(Files, AFailedWriteKeepsTheOldFileAndRemovesThePart) {
  const TempFolder folder;
  const std::string path = folder.file("a.bin");
  write_file_atomic(path, "old");
  {
    const FileSizeLimit limit(4096);
    const std::string message = message_of<RunError>([&] { write_file_atomic(path, std::string(1 << 20, 'x')); });
    EXPECT_NE(message.find("File too large"), std::string::npos) << message;
    EXPECT_NE(message.find("a.bin"), std::string::npos) << message;
  }
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(entries(folder.file("")), 1u);
}

TEST(Files, AWriterThatIsNotFinishedLeavesNothing) {
  const TempFolder folder;
  { FileWriter(folder.file("a")).write("text"); }
  EXPECT_EQ(entries(folder.file("")), 0u);
}

TEST(Files, AFolderIsWholeOrAbsent) {
  const TempFolder folder;
  const std::string target = folder.file("a");
  {
    FolderWriter writer(target + "/");
    write_file_atomic(writer.path() / "file", "text");
    EXPECT_FALSE(fs::exists(target));
  }
  EXPECT_EQ(entries(folder.file("")), 0u);

  fs::create_directories(target);
  FolderWriter writer(target);
  EXPECT_EQ(entries(writer.path()), 0u);
  write_file_atomic(writer.path() / "file", "text");
  writer.finish();
  EXPECT_EQ(read_file(target + "/file"), "text");
  EXPECT_EQ(entries(folder.file("")), 1u);

  EXPECT_NE(message_of<UserError>([&] { FolderWriter again(target); }).find("is there already"), std::string::npos);
  EXPECT_NE(message_of<UserError>([&] { FolderWriter again(target + "/file"); }).find("is there already"),
            std::string::npos);
  EXPECT_EQ(read_file(target + "/file"), "text");
}

// What the user has beside a target, under whatever name, is neither emptied, followed nor removed.
TEST(Files, WhatLiesBesideATargetStays) {
  const TempFolder folder;
  folder.write("mine.txt", "thesis");
  fs::create_directory(folder.file("a.tmp"));
  folder.write("a.tmp/thesis", "thesis");
  folder.write("b.tmp", "thesis");
  fs::create_symlink("mine.txt", folder.file("c.tmp"));
  FolderWriter writer(folder.file("a"));
  writer.finish();
  write_file_atomic(folder.file("b"), "b");
  write_file_atomic(folder.file("c"), "c");
  for (const char* name : {"mine.txt", "a.tmp/thesis", "b.tmp", "c.tmp"})
    EXPECT_EQ(read_file(folder.file(name)), "thesis") << name;
  EXPECT_EQ(entries(folder.file("")), 7u);
  EXPECT_THROW(FileWriter(folder.file("mine.txt")), UserError) << "a writer makes its file";
  EXPECT_EQ(read_file(folder.file("mine.txt")), "thesis");
}

TEST(Files, ANamedFileMayBeALinkOrAPipe) {
  const TempFolder folder;
  folder.write("real", "old");
  fs::create_symlink("real", folder.file("link"));
  write_named_file(folder.file("link"), "new");
  EXPECT_TRUE(fs::is_symlink(folder.file("link")));
  EXPECT_EQ(read_file(folder.file("real")), "new");
  write_named_file("/dev/null", "nothing");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  write_file_atomic(folder.file("link"), "a file of its own");
  EXPECT_FALSE(fs::is_symlink(folder.file("link")));
  EXPECT_EQ(read_file(folder.file("real")), "new");
}

TEST(Files, ANameThatIsTakenIsNotReplaced) {
  const TempFolder folder;
  folder.write("a", "a");
  folder.write("b", "b");
  EXPECT_FALSE(rename_to_free(folder.file("a"), folder.file("b")));
  EXPECT_EQ(read_file(folder.file("b")), "b");
  EXPECT_TRUE(rename_to_free(folder.file("a"), folder.file("c")));
  EXPECT_EQ(read_file(folder.file("c")), "a");
}

TEST(Files, TheFullDeviceIsARunError) {
  // Every write to /dev/full fails as on a full disk. ~FileWriter would remove it, hence the plain File.
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  File full("/dev/full", O_WRONLY);
  const std::string message = message_of<RunError>([&] { full.write("text", 4); });
  EXPECT_EQ(message, "cannot write /dev/full: No space left on device");
}

TEST(Files, APlaceThatCannotBeWrittenIsTheUsersError) {
  const TempFolder folder;
  folder.write("file", "");
  const std::string below_file = message_of<UserError>([&] { write_file_atomic(folder.file("file/a"), "x"); });
  EXPECT_NE(below_file.find("Not a directory"), std::string::npos) << below_file;
  const std::string in_proc = message_of<UserError>([&] { create_folders("/proc/sluice/run"); });
  EXPECT_NE(in_proc.find("/proc/sluice/run"), std::string::npos) << in_proc;
  EXPECT_THROW(create_folders(folder.file("file")), UserError);
  EXPECT_THROW(read_file(folder.file("missing")), UserError);
}

TEST(Files, AReadOnlyFolderIsTheUsersError) {
  const TempFolder folder;
  const ReadOnlyFolder read_only(folder.file(""));
  if (!read_only.binds()) GTEST_SKIP() << "permissions do not bind this user";
  const std::string message = message_of<UserError>([&] { write_file_atomic(folder.file("a"), "x"); });
  EXPECT_NE(message.find("Permission denied"), std::string::npos) << message;
}

TEST(Files, ChecksumsAgreeHoweverTheBytesArrive) {
  const TempFolder folder;
  std::string bytes(3'000'001, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = char(i * 2654435761u >> 13);
  FileWriter writer(folder.file("a"));
  size_t done = 0;
  for (const size_t part : {size_t{1}, size_t{1'048'575}, size_t{2}, size_t{1'048'576}, size_t{0}, size_t{902'847}}) {
    writer.write(bytes.data() + done, part);
    done += part;
  }
  ASSERT_EQ(done, bytes.size());
  writer.finish();
  EXPECT_EQ(writer.bytes(), bytes.size());
  EXPECT_EQ(writer.checksum(), checksum_of(bytes));
  EXPECT_EQ(checksum_of_file(folder.file("a")), checksum_of(bytes));
  EXPECT_EQ(read_file(folder.file("a")), bytes);
  EXPECT_EQ(checksum_text(checksum_of("")), "2d06800538d394c2") << "XXH3-64 of nothing, as its specification has it";
}

TEST(Files, AFolderReplacesAnother) {
  const TempFolder folder;
  fs::create_directory(folder.file("new"));
  fs::create_directory(folder.file("old"));
  folder.write("new/a", "new");
  folder.write("old/b", "old");
  replace_durably(folder.file("new"), folder.file("old"));
  EXPECT_EQ(read_file(folder.file("old/a")), "new");
  EXPECT_FALSE(fs::exists(folder.file("old/b")));
  EXPECT_FALSE(fs::exists(folder.file("new")));
}

TEST(Files, AFolderIsWrittenUnderItsPlainName) {
  const TempFolder folder;
  for (const char* name : {"a/", "b/.", "c/./"}) {
    FolderWriter writer(folder.file(name));
    write_file_atomic(writer.path() / "x", "x");
    writer.finish();
    EXPECT_EQ(read_file(folder.file(std::string(name, 1) + "/x")), "x");
  }
}

TEST(Files, TheCurrentFolderIsNotReplaced) {
  const TempFolder folder;
  const fs::path before = fs::current_path();
  fs::create_directory(folder.file("here"));
  fs::current_path(folder.file("here"));
  const std::vector<std::string> names = {".", "./", folder.file("here"), folder.file("here/."), "x/.."};
  for (const std::string& name : names) {
    const std::string message = message_of<UserError>([&] { FolderWriter writer(name); });
    EXPECT_NE(message.find("is the current folder"), std::string::npos) << name << ": " << message;
  }
  fs::current_path(before);
  EXPECT_TRUE(fs::is_empty(folder.file("here")));
}

TEST(Files, BytesForPeople) {
  EXPECT_EQ(bytes_text(999), "999 B");
  EXPECT_EQ(bytes_text(1500), "1.5 kB");
  EXPECT_EQ(bytes_text(999'999), "1.0 MB");
  EXPECT_EQ(bytes_text(1'500'000'000), "1.5 GB");
}

}  // namespace
}  // namespace sluice
