// Names made and read, and whether their owner still lives (aside.h).
#include "base/files/aside.h"

#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <ctime>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/machine_memory.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kMark = ".sluice-";
constexpr size_t kMostName = 160;  // bytes of the target's name, of which a file system takes 255 in all
constexpr uint32_t kInitialSpace =
    0xeffffffc;  // the inode that Linux gives the process numbers outside of all containers
constexpr size_t kHexDigits = 8;

std::string hex(uint64_t value) { return fmt::format("{:08x}", uint32_t(value)); }

const std::string& machine() {
  static const std::string name = [] {
    char text[256] = {};
    gethostname(text, sizeof text - 1);
    return hex(checksum_of(text + ("\n" + first_line_of("/etc/machine-id"))));
  }();
  return name;
}

const std::string& boot() {
  static const std::string id = hex(checksum_of(first_line_of("/proc/sys/kernel/random/boot_id")));
  return id;
}

// The inode of the space in which getpid() counts. 0 where that cannot be seen.
uint32_t space() {
  struct stat status {};
  return stat("/proc/self/ns/pid", &status) == 0 ? uint32_t(status.st_ino) : 0;
}

// Differs between two processes that have the same number one after the other.
const std::string& start() {
  static const std::string text = [] {
    const auto now = std::chrono::system_clock::now().time_since_epoch().count();
    return hex(checksum_of(std::to_string(now)));
  }();
  return text;
}

std::string beginning(const std::string& name) { return "." + name.substr(0, kMostName) + std::string(kMark); }

struct Owner {
  std::string machine, boot, space, start;
  pid_t process = 0;
};

bool is_hex(std::string_view text) {
  return text.size() == kHexDigits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

template <class Number>
bool is_number(std::string_view text, Number& value) {
  const char* const end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, value);
  return !text.empty() && read.ec == std::errc() && read.ptr == end && value >= 0;
}

// Whose name it is; nullopt if it is none of that kind.
std::optional<Owner> owner_of(std::string_view name) {
  const size_t mark = name.rfind(kMark);
  if (!name.starts_with('.') || mark == name.npos || mark == 0) return std::nullopt;
  std::vector<std::string_view> parts;
  for (std::string_view rest = name.substr(mark + kMark.size());;) {
    const size_t dash = rest.find('-');
    parts.push_back(rest.substr(0, dash));
    if (dash == rest.npos) break;
    rest.remove_prefix(dash + 1);
  }
  Owner owner;
  uint64_t number = 0;
  constexpr size_t kParts = 6;
  if (parts.size() != kParts || !is_number(parts[3], owner.process) || !is_number(parts[5], number) ||
      owner.process == 0)
    return std::nullopt;
  for (const size_t i : {0, 1, 2, 4}) {
    if (!is_hex(parts[i])) return std::nullopt;
  }
  owner.machine = parts[0];
  owner.boot = parts[1];
  owner.space = parts[2];
  owner.start = parts[4];
  return owner;
}

// Whether the process is known to be gone.
bool is_gone(const Owner& owner) {
  const uint32_t here = space();
  if (owner.machine != machine() || owner.space != hex(here) || here == 0) return false;
  // Another start of this machine has ended all processes of the one before; containers may only look alike.
  if (owner.boot != boot()) return here == kInitialSpace;
  if (owner.process == getpid()) return owner.start != start();
  return kill(owner.process, 0) != 0 && errno == ESRCH;
}

// Two machines that were copied from one image, name and all, see each other's files as those of an earlier start: what
// has changed since this one started is no leftover of that.
bool changed_since_boot(const fs::path& path) {
  struct stat status {};
  timespec now{}, since_boot{};
  if (lstat(path.c_str(), &status) != 0 || clock_gettime(CLOCK_REALTIME, &now) != 0 ||
      clock_gettime(CLOCK_BOOTTIME, &since_boot) != 0)
    return true;
  return status.st_mtim.tv_sec >= now.tv_sec - since_boot.tv_sec;
}

// Removes the entries of `folder` with the beginning that may be removed.
template <class May>
void remove_entries(const fs::path& folder, const std::string& beginning, const May& may_be_removed) {
  std::error_code ignored;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(folder, ignored), end; !ignored && entry != end; entry.increment(ignored)) {
    const std::string here = entry->path().filename().string();
    std::error_code unknown;
    const fs::file_status status = entry->symlink_status(unknown);
    if (!here.starts_with(beginning) || !(fs::is_regular_file(status) || fs::is_directory(status))) continue;
    if (const auto owner = owner_of(here); owner && may_be_removed(*owner, entry->path()))
      found.push_back(entry->path());
  }
  for (const fs::path& path : found) remove_quietly(path);
}

// Calls make(path), which returns an errno value or 0, with new names until one is not taken.
template <class Make>
fs::path make_aside(const fs::path& target, const char* action, const Make& make) {
  while (true) {
    const fs::path path = name_aside(target);
    const int error = make(path);
    if (error == 0) return path;
    if (error != EEXIST && error != EINTR) throw_file_error(action, target, error);
  }
}

}  // namespace

fs::path name_aside(const fs::path& target) {
  static std::atomic<uint64_t> number{0};
  while (true) {
    const fs::path path =
        target.parent_path() / fmt::format("{}{}-{}-{}-{}-{}-{}", beginning(target.filename().string()), machine(),
                                           boot(), hex(space()), getpid(), start(), number++);
    std::error_code ignored;
    if (!fs::exists(fs::symlink_status(path, ignored))) return path;
  }
}

FileAside create_file_aside(const fs::path& target) {
  std::optional<File> file;
  fs::path place = make_aside(target, "write", [&](const fs::path& path) {
    const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (descriptor < 0) return errno;
    file.emplace(target, File::Opened{descriptor});
    return 0;
  });
  return {std::move(*file), std::move(place)};
}

fs::path create_folder_aside(const fs::path& target) {
  return make_aside(target, "create the folder",
                    [](const fs::path& path) { return mkdir(path.c_str(), 0777) == 0 ? 0 : errno; });
}

std::string named_as_target(std::string text, const fs::path& aside, const fs::path& target) {
  const std::string name = aside.string(), wanted = target.string();
  if (name.empty()) return text;
  for (size_t at = text.find(name); at != text.npos; at = text.find(name, at + wanted.size()))
    text.replace(at, name.size(), wanted);
  return text;
}

bool is_name_aside(const std::string& name) { return owner_of(name).has_value(); }

bool is_leftover(const std::string& name) {
  const auto owner = owner_of(name);
  return owner && is_gone(*owner);
}

void remove_leftovers(const fs::path& folder, const std::string& name) {
  remove_entries(folder, name.empty() ? "." : beginning(name), [](const Owner& owner, const fs::path& path) {
    return is_gone(owner) && (owner.boot == boot() || !changed_since_boot(path));
  });
}

void remove_all_aside(const fs::path& folder) {
  remove_entries(folder, ".", [](const Owner&, const fs::path&) { return true; });
}

}  // namespace sluice
