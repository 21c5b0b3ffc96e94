// Only regular files are read, and no more of them than the limit; what a shell hands on may be a pipe.
#include "base/files/input_file.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "base/error_text.h"
#include "data/temp_folder.h"

namespace sluice {
namespace {

TEST(InputFile, ReadsRegularFilesUpToTheLimit) {
  const TempFolder folder;
  const std::string path = folder.write("a", "0123456789");
  EXPECT_EQ(read_regular_file(path, 10, "a test"), "0123456789");
  EXPECT_EQ(user_error_of([&] { read_regular_file(path, 9, "a test"); }),
            "cannot read " + path + ": it has more than 9 B, the limit for a test");
  EXPECT_EQ(read_regular_file(folder.write("empty", ""), 0, "a test"), "");
  EXPECT_EQ(special_kind(path), "");
  EXPECT_EQ(special_kind(folder.file("none")), "");
}

// Files of /proc say that they have no bytes.
TEST(InputFile, TheLimitHoldsWhereTheSizeIsNotTold) {
  EXPECT_GT(read_regular_file("/proc/self/status", 1 << 20, "a test").size(), 100u);
  EXPECT_EQ(user_error_of([] { read_regular_file("/proc/self/status", 100, "a test"); }),
            "cannot read /proc/self/status: it has more than 100 B, the limit for a test");
}

TEST(InputFile, RefusesWhatIsNoFileWithoutWaiting) {
  const TempFolder folder;
  const std::string pipe = folder.file("pipe"), socket_path = folder.file("socket");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket_path.c_str(), sizeof address.sun_path - 1);
  const int server = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(server, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0) << strerror(errno);
  const auto said = [](const std::string& path) {
    return user_error_of([&] { read_file_or_pipe(path, 100, "a test"); });
  };
  EXPECT_EQ(said(pipe), "cannot read " + pipe + ": it is a named pipe, but must be a file");
  EXPECT_EQ(said(socket_path), "cannot read " + socket_path + ": it is a socket, but must be a file");
  EXPECT_EQ(said("/dev/zero"), "cannot read /dev/zero: it is a device, but must be a file");
  EXPECT_EQ(said(folder.file("")), "cannot read " + folder.file("") + ": it is a folder, but must be a file");
  EXPECT_EQ(said(folder.file("none")), "cannot open " + folder.file("none") + ": No such file or directory");
  EXPECT_EQ(said(folder.write("f", "") + "/x"), "cannot open " + folder.file("f") + "/x: Not a directory");
  EXPECT_NE(said(folder.file(std::string(300, 'x'))).find("File name too long"), std::string::npos);
  close(server);
}

TEST(InputFile, ReadsAPipeThatWasHandedOn) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  std::thread writer([&] {
    const std::string text(200'000, 'a');  // more than a pipe holds
    for (size_t done = 0; done < text.size();) done += size_t(write(ends[1], text.data() + done, text.size() - done));
    close(ends[1]);
  });
  EXPECT_EQ(read_file_or_pipe("/dev/fd/" + std::to_string(ends[0]), 200'000, "a test"), std::string(200'000, 'a'));
  writer.join();
  close(ends[0]);
}

TEST(InputFile, ANamedPipeIsReadAsAStreamWhereSomebodyWritesToIt) {
  const TempFolder folder;
  const std::string path = folder.file("pipe");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(user_error_of([&] { open_stream(path, 0.05); }),
            "cannot read " + path + ": it is a named pipe, and nobody wrote to it for 0.05 seconds");
  std::thread writer([&] {
    File pipe(path, O_WRONLY);
    pipe.write("first ", 6);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // a reader that does not wait would end here
    pipe.write("second", 6);
  });
  const File stream = open_stream(path, 10);
  std::string text(100, '\0');
  size_t done = 0;
  for (ssize_t got = 1; got > 0; done += size_t(got)) {
    got = read(stream.descriptor(), text.data() + done, text.size() - done);
    ASSERT_GE(got, 0) << strerror(errno);
  }
  EXPECT_EQ(text.substr(0, done), "first second");
  writer.join();
  EXPECT_EQ(user_error_of([&] { open_stream(folder.file("")); }),
            "cannot read " + folder.file("") + ": it is a folder, but must be a file");
}

TEST(InputFile, APipeHasTheLimitToo) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_EQ(write(ends[1], "0123456789", 10), 10);
  const std::string path = "/proc/self/fd/" + std::to_string(ends[0]);
  EXPECT_EQ(user_error_of([&] { read_file_or_pipe(path, 5, "a test"); }),
            "cannot read " + path + ": it has more than 5 B, the limit for a test");
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace sluice
