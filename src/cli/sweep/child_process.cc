// A child started and ended. Between fork and exec only what is async-signal-safe may be called: text is made before.
#include "cli/sweep/child_process.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files/files.h"
#include "train/signals.h"

namespace sluice {

namespace {

std::vector<std::string> merged_environment(const std::map<std::string, std::string>& changes) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    if (!changes.contains(text.substr(0, text.find('=')))) all.push_back(text);
  }
  for (const auto& [key, value] : changes) all.push_back(key + "=" + value);
  return all;
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (const std::string& text : texts) list.push_back(const_cast<char*>(text.c_str()));
  list.push_back(nullptr);
  return list;
}

constexpr const char* kThisProgram = "/proc/self/exe";

[[noreturn]] void become(char* const* arguments, char* const* environment, int input, int output, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(127);  // it died before prctl
  restore_signals_in_child();
  dup2(input, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  execve(kThisProgram, arguments, environment);
  _exit(127);
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& arguments,
                           const std::map<std::string, std::string>& environment, const std::filesystem::path& log) {
  const File input("/dev/null", O_RDONLY), output(log, O_WRONLY | O_CREAT | O_APPEND);
  const std::vector<std::string> merged = merged_environment(environment);
  std::vector<std::string> named = {std::filesystem::read_symlink(kThisProgram).string()};
  named.insert(named.end(), arguments.begin(), arguments.end());
  const std::vector<char*> argv = pointers(named), envp = pointers(merged);
  const pid_t parent = getpid();
  id_ = fork();
  if (id_ < 0) throw RunError("cannot start {}: {}", named[0], std::strerror(errno));
  if (id_ == 0) become(argv.data(), envp.data(), input.descriptor(), output.descriptor(), parent);
  setpgid(id_, id_);  // here too: whoever is first
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : id_(std::exchange(other.id_, -1)), stopped_(other.stopped_), exit_code_(other.exit_code_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(id_, other.id_);
  std::swap(stopped_, other.stopped_);
  std::swap(exit_code_, other.exit_code_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (id_ < 0) return;
  stop(SIGTERM);
  while (waitpid(id_, nullptr, 0) < 0 && errno == EINTR) continue;
}

void ChildProcess::stop(int signal) {
  if (id_ >= 0 && !std::exchange(stopped_, true)) kill(id_, signal);
}

std::optional<int> ChildProcess::exit_code() {
  int status = 0;
  if (id_ < 0 || waitpid(id_, &status, WNOHANG) != id_) return exit_code_;
  id_ = -1;
  exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return exit_code_;
}

}  // namespace sluice
