// See text_file.h.
#include "data/text_file.h"

#include <fcntl.h>
#include <glob.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "base/error.h"
#include "base/input_file.h"
#include "data/shard_format.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

constexpr size_t kInputBuffer = 256 << 10;

// One frame after another; a window beyond 128 MB, as `zstd --ultra --long` makes them, is refused by the library.
class Zstd final : public Decompressor {
 public:
  Zstd() : stream_(ZSTD_createDStream()) {
    if (!stream_) throw std::bad_alloc();
  }
  ~Zstd() override { ZSTD_freeDStream(stream_); }
  Step step(const char* input, size_t size, char* text, size_t room) override {
    ZSTD_inBuffer in{input, size, 0};
    ZSTD_outBuffer out{text, room, 0};
    const size_t left = ZSTD_decompressStream(stream_, &out, &in);
    if (ZSTD_getErrorCode(left) == ZSTD_error_frameParameter_windowTooLarge) {
      throw std::runtime_error("its window is above 128 MB; compress it again without --long=31");
    }
    if (ZSTD_isError(left)) throw std::runtime_error(ZSTD_getErrorName(left));
    complete_ = left == 0;
    return {in.pos, out.pos};
  }
  bool complete() const override { return complete_; }

 private:
  ZSTD_DStream* stream_;
  bool complete_ = true;
};

class Gzip final : public Decompressor {
 public:
  Gzip() {
    if (inflateInit2(&stream_, 16 + MAX_WBITS) != Z_OK) throw std::bad_alloc();  // 16: gzip's header and no other
  }
  ~Gzip() override { inflateEnd(&stream_); }
  Step step(const char* input, size_t size, char* text, size_t room) override {
    if (complete_ && size > 0) inflateReset(&stream_);  // another member follows
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input));
    stream_.avail_in = uInt(size);
    stream_.next_out = reinterpret_cast<Bytef*>(text);
    stream_.avail_out = uInt(room);
    const int status = inflate(&stream_, Z_NO_FLUSH);
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
      throw std::runtime_error(stream_.msg ? stream_.msg : "bad data");
    }
    complete_ = status == Z_STREAM_END;
    return {size - stream_.avail_in, room - stream_.avail_out};
  }
  bool complete() const override { return complete_; }

 private:
  z_stream stream_{};
  bool complete_ = true;
};

bool starts_with(const char* bytes, size_t size, std::string_view magic) {
  return size >= magic.size() && std::memcmp(bytes, magic.data(), magic.size()) == 0;
}

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> paths;
  for (auto entry = fs::recursive_directory_iterator(folder); entry != fs::recursive_directory_iterator(); ++entry) {
    if (entry->path().filename().string()[0] == '.') {
      if (entry->is_directory()) entry.disable_recursion_pending();
    } else if (entry->is_regular_file()) {
      paths.push_back(entry->path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  if (paths.empty()) throw UserError("the folder {} has no files", folder);
  return paths;
}

std::vector<std::string> files_of_glob(const std::string& pattern) {
  glob_t found{};
  const int status = glob(pattern.c_str(), 0, nullptr, &found);
  std::vector<std::string> paths;
  if (status == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  std::erase_if(paths, [](const std::string& path) { return !fs::is_regular_file(path); });
  if (paths.empty()) throw UserError("no file matches {}", pattern);
  return paths;
}

}  // namespace

TextFile::TextFile(const std::string& path)
    : name_(path == kStandardInput ? "the standard input" : path), descriptor_(STDIN_FILENO), input_(kInputBuffer) {
  if (path != kStandardInput) descriptor_ = file_.emplace(open_stream(path)).descriptor();
  posix_fadvise(descriptor_, 0, 0, POSIX_FADV_SEQUENTIAL);
  recognise();
}

bool TextFile::refill() {
  if (at_end_) return false;
  if (begin_ > 0) std::memmove(input_.data(), input_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  ssize_t got;
  do {
    got = ::read(descriptor_, input_.data() + end_, input_.size() - end_);
  } while (got < 0 && errno == EINTR);
  if (got < 0) throw_file_error("read", name_, errno);
  at_end_ = got == 0;
  end_ += size_t(got);
  bytes_taken_ += uint64_t(got);
  return !at_end_;
}

void TextFile::recognise() {
  while (end_ < 8 && refill()) {
  }
  if (opens_like_shard(std::as_bytes(std::span(input_.data(), end_))))
    throw UserError("{} is a shard of tokens, but text is asked for", name_);
  const bool zstd = starts_with(input_.data(), end_, "\x28\xB5\x2F\xFD");
  const bool skippable = end_ >= 4 && (input_[0] & 0xF0) == 0x50 && starts_with(input_.data() + 1, 3, "\x2A\x4D\x18");
  if (zstd || skippable) decompressor_ = std::make_unique<Zstd>();
  if (starts_with(input_.data(), end_, "\x1F\x8B")) decompressor_ = std::make_unique<Gzip>();
}

size_t TextFile::read(char* text, size_t size) {
  while (true) {
    const bool more = begin_ < end_ || refill();
    if (!decompressor_) {
      const size_t count = std::min(size, end_ - begin_);
      std::memcpy(text, input_.data() + begin_, count);
      begin_ += count;
      return count;
    }
    Decompressor::Step step;
    try {
      // Also without input: the library may still hold text back for want of room.
      if (more || !decompressor_->complete()) step = decompressor_->step(input_.data() + begin_, end_ - begin_, text, size);
    } catch (const std::runtime_error& error) {
      throw UserError("{} is damaged or of a kind that cannot be read, near byte {} of the compressed data: {}", name_,
                      bytes_taken_ - (end_ - begin_), error.what());
    }
    begin_ += step.taken;
    if (step.given > 0) return step.given;
    if (more && (step.taken > 0 || refill())) continue;
    if (!decompressor_->complete()) throw UserError("{} is cut off: its compressed data has no end", name_);
    return 0;
  }
}

std::vector<std::string> find_text_files(const std::vector<std::string>& inputs) {
  std::vector<std::string> paths;
  for (const std::string& input : inputs) {
    const bool here = fs::exists(input);
    if (here && fs::is_directory(input)) {
      const auto found = files_in(input);
      paths.insert(paths.end(), found.begin(), found.end());
    } else if (!here && input.find_first_of("*?[") != input.npos) {
      const auto found = files_of_glob(input);
      paths.insert(paths.end(), found.begin(), found.end());
    } else {
      if (!here && input != kStandardInput) throw UserError("there is no file {}", input);
      paths.push_back(input);
    }
  }
  if (std::count(paths.begin(), paths.end(), std::string(kStandardInput)) > 1) {
    throw UserError("the standard input (-) can be read only once");
  }
  return paths;
}

uint64_t total_size(const std::vector<std::string>& paths) {
  uint64_t total = 0;
  for (const std::string& path : paths) {
    if (path == kStandardInput || !fs::is_regular_file(path)) return 0;
    total += fs::file_size(path);
  }
  return total;
}

}  // namespace sluice
