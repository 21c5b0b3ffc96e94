// Names aside: a leftover is removed when its process is known to be gone, and only then.
#include "base/files/aside.h"

#include <filesystem>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/stat.h>
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

// The leftover file of `target` = folder/a.
fs::path leftover_of(const TempFolder& folder) {
  leave_behind(folder.file("a"));
  for (const auto& entry : fs::directory_iterator(folder.file(""))) {
    if (entry.is_regular_file()) return entry.path();
  }
  return {};
}

// ".a.sluice-MACHINE-BOOT-SPACE-..." with other digits in one part.
fs::path with_other_part(const fs::path& leftover, size_t part) {
  std::string name = leftover.string();
  const size_t begin = name.rfind(".sluice-") + 8 + 9 * part;
  name[begin] = name[begin] == 'a' ? 'b' : 'a';
  return name;
}

constexpr size_t kMachine = 0, kBoot = 1, kSpace = 2;

TEST(Aside, NothingOfOtherMachinesAndContainersIsRemoved) {
  for (const size_t part : {kMachine, kSpace}) {
    const TempFolder folder;
    const fs::path leftover = leftover_of(folder), other = with_other_part(leftover, part);
    fs::rename(leftover, other);
    remove_leftovers(folder.file(""));
    EXPECT_TRUE(fs::exists(other)) << other;
    EXPECT_FALSE(is_leftover(other.filename().string()));
    EXPECT_TRUE(is_name_aside(other.filename().string()));
    EXPECT_EQ(entries(folder.file("")), 1u) << "the folder's process is known to be gone";
    remove_all_aside(folder.file(""));
    EXPECT_EQ(entries(folder.file("")), 0u);
  }
}

TEST(Aside, WhatAnEarlierStartOfTheMachineLeftIsRemovedIfItIsThatOld) {
  const TempFolder folder;
  const fs::path leftover = leftover_of(folder), other = with_other_part(leftover, kBoot);
  fs::rename(leftover, other);
  remove_leftovers(folder.file(""));
  EXPECT_TRUE(fs::exists(other)) << "written since this start, so by another machine that looks like this one";
  timespec old[2] = {{1'000'000, 0}, {1'000'000, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, other.c_str(), old, 0), 0);
  struct stat space {};
  ASSERT_EQ(stat("/proc/self/ns/pid", &space), 0);
  remove_leftovers(folder.file(""));
  EXPECT_EQ(fs::exists(other), space.st_ino != 0xeffffffc) << "in a container nobody knows what else looks like it";
}

// As two containers that share a folder and have one name.
TEST(Aside, ProcessesThatAreNotSeenFromHereLive) {
  const TempFolder folder;
  const fs::path ours = create_folder_aside(folder.file("a"));
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) _exit(2);
    const pid_t inside = fork();
    if (inside == 0) {
      remove_leftovers(folder.file(""));
      _exit(fs::exists(ours) ? 0 : 1);
    }
    int status = 0;
    waitpid(inside, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 3);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 2) GTEST_SKIP() << "this user may not make a space of process numbers";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Aside, OtherNamesStay) {
  const TempFolder folder;
  for (const char* name : {"a.tmp", ".a", ".a.sluice-", ".a.sluice-0-0-0-0", ".a.sluice-12345678-999999999-12345678-0",
                           "a.sluice-12345678-12345678-12345678-1-12345678-0"})
    folder.write(name, "mine");
  leave_behind(folder.file("a"));
  // A link of such a name was made by somebody else.
  for (const auto& entry : fs::directory_iterator(folder.file(""))) {
    if (entry.is_directory()) fs::create_symlink("a.tmp", entry.path().string() + "1");
  }
  remove_leftovers(folder.file(""));
  EXPECT_EQ(entries(folder.file("")), 7u);
  remove_all_aside(folder.file(""));
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
