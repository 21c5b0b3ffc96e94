// Names aside: a leftover is removed when its process is gone, and only then.
#include "base/files/aside.h"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data/temp_folder.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// Makes a file and a folder aside of `target` in a process that then ends, as by a kill.
void leave_behind(const std::string& target) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    create_file_aside(target);
    const fs::path folder = create_folder_aside(target);
    fs::create_directory(folder / "below");
    _exit(0);
  }
  waitpid(child, nullptr, 0);
}

size_t entries(const std::string& folder) {
  return size_t(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(Aside, LeftoversOfProcessesThatAreGoneAreRemoved) {
  const TempFolder folder;
  leave_behind(folder.file("a"));
  leave_behind(folder.file("b"));
  const fs::path ours = create_folder_aside(folder.file("a"));
  EXPECT_EQ(entries(folder.file("")), 5u);
  remove_leftovers(folder.file(""), "a");
  EXPECT_EQ(entries(folder.file("")), 3u);
  EXPECT_TRUE(fs::exists(ours)) << "its process lives";
  remove_leftovers(folder.file(""));
  EXPECT_EQ(entries(folder.file("")), 1u);
}

TEST(Aside, OtherNamesStay) {
  const TempFolder folder;
  for (const char* name : {"a.tmp", ".a", ".a.sluice-", ".a.sluice-0-0-0-0", ".a.sluice-12345678-999999999-12345678-0",
                           "a.sluice-12345678-1-12345678-0"})
    folder.write(name, "mine");
  leave_behind(folder.file("a"));
  // A link of such a name was made by somebody else.
  for (const auto& entry : fs::directory_iterator(folder.file(""))) {
    if (entry.is_directory()) fs::create_symlink("a.tmp", entry.path().string() + "1");
  }
  remove_leftovers(folder.file(""));
  EXPECT_EQ(entries(folder.file("")), 7u);
}

TEST(Aside, NamesAreNewAndFit) {
  const TempFolder folder;
  const std::string target = folder.file(std::string(255, 'x'));
  EXPECT_NE(create_folder_aside(target), create_folder_aside(target));
  FileAside made = create_file_aside(target);
  EXPECT_EQ(made.file.path(), target) << "messages have the target's name";
  EXPECT_TRUE(fs::is_regular_file(made.place));
}

}  // namespace
}  // namespace sluice
