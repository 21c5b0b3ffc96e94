// This program once more, as a child process with its output in a file.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace sluice {

class ChildProcess {
 public:
  // Starts this program, even if its file has been replaced meanwhile, with `arguments` and with `environment` laid
  // over this process's; standard output and errors are appended to `log`, standard input is empty. The child is in a
  // process group of its own, so that Ctrl-C reaches it through stop() alone, and is told to stop (SIGTERM) should this
  // process die. RunError if it cannot be started.
  ChildProcess(const std::vector<std::string>& arguments, const std::map<std::string, std::string>& environment,
               const std::filesystem::path& log);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();  // if it still runs: stop(SIGTERM), and waits for its end

  void stop(int signal);           // once: a second signal would end a run at once
  std::optional<int> exit_code();  // once it has ended; 128 + the signal that killed it

 private:
  int id_ = -1;  // -1: there is none, or its end is known
  bool stopped_ = false;
  std::optional<int> exit_code_;
};

}  // namespace sluice
