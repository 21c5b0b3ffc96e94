// Plain POSIX calls, each checked.
#include "base/files/open_file.h"

#include <algorithm>
#include <cstring>
#include <new>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/error.h"
#include "base/files/files.h"
#include "base/files/input_file.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

constexpr size_t kWriteBuffer = 1 << 20;
constexpr size_t kReadBuffer = 1 << 20;

}  // namespace

bool is_about_the_place(int error) {
  constexpr int kErrors[] = {EACCES, EPERM,        EROFS,  ENOENT, ENOTDIR, EISDIR, EEXIST,
                             ELOOP,  ENAMETOOLONG, EINVAL, ENXIO,  ENODEV,  EILSEQ};
  return std::find(std::begin(kErrors), std::end(kErrors), error) != std::end(kErrors);
}

void throw_file_error(const char* action, const fs::path& path, int error) {
  const std::string text = fmt::format("cannot {} {}: {}", action, path.string(), std::strerror(error));
  if (is_about_the_place(error)) throw UserError("{}", text);
  throw RunError("{}", text);
}

// ---- checksums ------------------------------------------------------------------------------------------------------

Checksum::Checksum() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_64bits_reset(state_.get());
}

void Checksum::Free::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

void Checksum::update(const void* data, size_t bytes) {
  if (bytes > 0) XXH3_64bits_update(state_.get(), data, bytes);
}

uint64_t Checksum::value() const { return XXH3_64bits_digest(state_.get()); }

std::string checksum_text(uint64_t checksum) { return fmt::format("{:016x}", checksum); }

uint64_t checksum_of(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t checksum_of_file(const fs::path& path) {
  const File file = open_regular(path);
  posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_SEQUENTIAL);
  Checksum sum;
  std::vector<char> buffer(kReadBuffer);
  uint64_t offset = 0;
  while (const size_t got = file.read_at(offset, buffer.data(), buffer.size())) {
    sum.update(buffer.data(), got);
    offset += got;
  }
  return sum.value();
}

// ---- File -----------------------------------------------------------------------------------------------------------

File::File(fs::path path, int flags) : path_(std::move(path)) {
  descriptor_ = uninterrupted([&] { return open(path_.c_str(), flags | O_CLOEXEC, 0666); });
  if (descriptor_ < 0) throw_file_error((flags & O_ACCMODE) == O_RDONLY ? "open" : "write", path_, errno);
}

File::File(File&& other) noexcept : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

uint64_t File::size() const {
  struct stat status {};
  if (fstat(descriptor_, &status) != 0) throw_file_error("read the size of", path_, errno);
  return uint64_t(status.st_size);
}

namespace {

// Calls write_some(bytes done so far, where the rest lies, its size) until nothing is left.
template <class WriteSome>
void write_all(const fs::path& path, const void* data, size_t bytes, const WriteSome& write_some) {
  size_t done = 0;
  while (done < bytes) {
    const ssize_t more = write_some(done, static_cast<const char*>(data) + done, bytes - done);
    if (more < 0 && errno == EINTR) continue;
    if (more < 0) throw_file_error("write", path, errno);
    done += size_t(more);
  }
}

}  // namespace

void File::write(const void* data, size_t bytes) {
  write_all(path_, data, bytes,
            [&](size_t, const char* rest, size_t size) { return ::write(descriptor_, rest, size); });
}

void File::write_at(uint64_t offset, const void* data, size_t bytes) {
  write_all(path_, data, bytes, [&](size_t done, const char* rest, size_t size) {
    return pwrite(descriptor_, rest, size, off_t(offset + done));
  });
}

size_t File::read_at(uint64_t offset, void* data, size_t bytes) const {
  size_t total = 0;
  while (total < bytes) {
    const ssize_t got = pread(descriptor_, static_cast<char*>(data) + total, bytes - total, off_t(offset + total));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_file_error("read", path_, errno);
    if (got == 0) break;
    total += size_t(got);
  }
  return total;
}

void File::truncate(uint64_t bytes) {
  if (uninterrupted([&] { return ftruncate(descriptor_, off_t(bytes)); }) != 0) throw_file_error("cut", path_, errno);
}

void File::sync() {
  // Pipes and some special files have nothing to sync and say EINVAL.
  if (uninterrupted([&] { return fsync(descriptor_); }) != 0 && errno != EINVAL) throw_file_error("sync", path_, errno);
}

void File::close() {
  const int descriptor = std::exchange(descriptor_, -1);
  // Linux has closed the file even when it was interrupted.
  if (descriptor >= 0 && ::close(descriptor) != 0 && errno != EINTR) throw_file_error("close", path_, errno);
}

// ---- FileWriter -----------------------------------------------------------------------------------------------------

FileWriter::FileWriter(const fs::path& path) : FileWriter(File(path, O_WRONLY | O_CREAT | O_EXCL), path) {}

FileWriter::FileWriter(File file, fs::path place) : file_(std::move(file)), place_(std::move(place)) {
  buffer_.reserve(kWriteBuffer);
}

FileWriter::~FileWriter() {
  if (!finished_) remove_quietly(place_);
}

void FileWriter::write(const void* data, size_t bytes) {
  checksum_.update(data, bytes);
  bytes_ += bytes;
  if (buffer_.size() + bytes > kWriteBuffer) flush();
  if (bytes >= kWriteBuffer) return file_.write(data, bytes);
  const char* begin = static_cast<const char*>(data);
  buffer_.insert(buffer_.end(), begin, begin + bytes);
}

void FileWriter::flush() {
  file_.write(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void FileWriter::overwrite(uint64_t offset, const void* data, size_t bytes) {
  check_le(offset + bytes, bytes_, "the bytes to overwrite");
  flush();
  file_.write_at(offset, data, bytes);
}

void FileWriter::finish() {
  flush();
  file_.sync();
  file_.close();
  finished_ = true;
}

}  // namespace sluice
