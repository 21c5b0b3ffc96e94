// Which files a folder, a glob and a link name.
#include "data/text/text_inputs.h"

#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/files/glob.h"
#include "data/temp_folder.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

class TextInputs : public testing::Test {
 protected:
  void file(const std::string& name) {
    fs::create_directories(fs::path(folder.file(name)).parent_path());
    folder.write(name, name);
  }
  void folder_link(const std::string& target, const std::string& name) {
    fs::create_directories(fs::path(folder.file(name)).parent_path());
    fs::create_directory_symlink(target, folder.file(name));
  }
  // Without the folder's own path.
  std::vector<std::string> found(const std::vector<std::string>& inputs) {
    std::vector<std::string> paths;
    for (const std::string& input : inputs) paths.push_back(folder.file(input));
    paths = find_text_files(paths);
    for (std::string& path : paths) path = fs::path(path).lexically_relative(folder.file("")).string();
    return paths;
  }
  std::string error(const std::string& input) {
    return message_of<UserError>([&] { find_text_files({folder.file(input)}); });
  }

  TempFolder folder;
};

using Names = std::vector<std::string>;

TEST_F(TextInputs, FollowsLinksToFoldersAndFiles) {
  file("corpus/a.txt");
  file("disk/books/b.txt");
  file("disk/books/deep/c.txt");
  folder_link("../disk/books", "corpus/books");
  fs::create_symlink("../disk/books/b.txt", folder.file("corpus/link.txt"));
  EXPECT_EQ(found({"corpus"}),
            (Names{"corpus/a.txt", "corpus/books/b.txt", "corpus/books/deep/c.txt", "corpus/link.txt"}));
  EXPECT_EQ(found({"corpus/books"}), (Names{"corpus/books/b.txt", "corpus/books/deep/c.txt"}));
  folder_link("../disk", "only/books");
  EXPECT_EQ(found({"only"}), (Names{"only/books/books/b.txt", "only/books/books/deep/c.txt"})) << "links alone";
}

TEST_F(TextInputs, ReadsEachFolderOnce) {
  file("corpus/real/a.txt");
  folder_link("real", "corpus/again");  // before it in the alphabet
  folder_link("..", "corpus/real/up");  // a loop
  folder_link(".", "corpus/self");
  folder_link("../../corpus", "corpus/real/top");
  EXPECT_EQ(found({"corpus"}), Names{"corpus/real/a.txt"});
  EXPECT_EQ(found({"corpus", "corpus"}), (Names{"corpus/real/a.txt", "corpus/real/a.txt"})) << "as it was asked for";
  file("other/b.txt");
  folder_link("../other", "corpus/x");
  folder_link("../other", "corpus/y");
  EXPECT_EQ(found({"corpus"}), (Names{"corpus/real/a.txt", "corpus/x/b.txt"}));
}

TEST_F(TextInputs, LinksThatLeadNowhere) {
  file("corpus/a.txt");
  fs::create_symlink("gone.txt", folder.file("corpus/dangling"));
  EXPECT_EQ(error("corpus"),
            folder.file("corpus/dangling") + " is a link to gone.txt, which is not there; mend it, or take it away");
  EXPECT_EQ(error("corpus/dangling"), error("corpus"));
  EXPECT_EQ(error("corpus/dang*"), error("corpus"));
  fs::remove(folder.file("corpus/dangling"));
  fs::create_symlink("round", folder.file("corpus/round"));
  EXPECT_NE(error("corpus").find("corpus/round is a link to round, which leads round in a circle"), std::string::npos);
  fs::rename(folder.file("corpus/round"), folder.file("corpus/.round"));
  EXPECT_EQ(found({"corpus"}), Names{"corpus/a.txt"}) << "what is hidden is not looked at";
}

TEST_F(TextInputs, WhatIsNeitherFileNorFolder) {
  file("corpus/a.txt");
  ASSERT_EQ(mkfifo(folder.file("corpus/pipe").c_str(), 0600), 0);
  EXPECT_NE(error("corpus").find("corpus/pipe is a named pipe, neither a file nor a folder"), std::string::npos);
  EXPECT_EQ(found({"corpus/pipe"}), Names{"corpus/pipe"}) << "by its name it is what was asked for";
}

TEST_F(TextInputs, WhatMayNotBeRead) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read everything; tests/cli/text_inputs.sh has it";
  file("corpus/ok/a.txt");
  file("corpus/private/b.txt");
  ASSERT_EQ(chmod(folder.file("corpus/private").c_str(), 0), 0);
  EXPECT_EQ(error("corpus"), "cannot read the folder " + folder.file("corpus/private") + ": Permission denied");
  EXPECT_NE(error("corpus/private/*").find("cannot read the folder"), std::string::npos);
  chmod(folder.file("corpus/private").c_str(), 0700);
  ASSERT_EQ(chmod(folder.file("corpus/ok/a.txt").c_str(), 0), 0);
  EXPECT_EQ(error("corpus"), "cannot open " + folder.file("corpus/ok/a.txt") + ": Permission denied");
}

TEST_F(TextInputs, GlobsTakeFoldersToo) {
  file("corpus/a.txt");
  file("corpus/deep/b.txt");
  fs::create_directories(folder.file("corpus/empty"));
  EXPECT_EQ(found({"corpus/*"}), (Names{"corpus/a.txt", "corpus/deep/b.txt"}));
  EXPECT_EQ(error("corpus/*.md"), "no file matches " + folder.file("corpus/*.md"));
  EXPECT_EQ(error("corpus/empty"), "the folder " + folder.file("corpus/empty") + " has no files");
  EXPECT_EQ(error("none"), "there is no file " + folder.file("none"));
  EXPECT_NE(error(std::string(5000, 'x')).find("File name too long"), std::string::npos);
}

TEST_F(TextInputs, FoldersOfAGlobMayHaveItsCharactersInTheirNames) {
  file("data [v1]/a.txt");
  file("data [v1]/b*c/d.txt");
  file("datav/e.txt");
  EXPECT_EQ(found({"data [v1]/*.txt"}), Names{"data [v1]/a.txt"});
  EXPECT_EQ(found({"data [v1]/b*c/*"}), Names{"data [v1]/b*c/d.txt"});
  EXPECT_EQ(found({"data[v]/*"}), Names{"datav/e.txt"}) << "which is not there under this very name";
  EXPECT_EQ(expand_glob(folder.file("data [v1]/?.txt"), ""), Names{folder.file("data [v1]/a.txt")});
  EXPECT_EQ(expand_glob(folder.file("none/*"), ""), Names{});
}

}  // namespace
}  // namespace sluice
