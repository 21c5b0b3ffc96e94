// A file's first bytes say how it is packed; from then on it is a stream of text (text_file.h).
#include "data/text/text_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "base/error.h"
#include "base/files/input_file.h"
#include "base/utf8.h"
#include "data/shards/shard_format.h"

namespace sluice {

namespace {

constexpr size_t kInputBuffer = 256 << 10;

// A name that promises packed bytes: where they are not, a download that went wrong would pass for text.
const char* promised_packing(const std::string& path) {
  std::string ending = std::filesystem::path(path).extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return std::tolower(c); });
  if (ending == ".gz" || ending == ".gzip") return "gzip";
  if (ending == ".zst" || ending == ".zstd") return "zstd";
  return nullptr;
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
  decompressor_ = make_decompressor({input_.data(), end_});
  const char* promised = file_ ? promised_packing(name_) : nullptr;
  if (promised && !decompressor_) {
    throw UserError("{} is called as if it were packed with {}, but {}", name_, promised,
                    end_ == 0 ? "it is empty" : "it does not begin so; rename it if it is plain text");
  }
  opening_.resize(kForeignOpening);
  size_t size = 0;
  for (size_t got = 1; size < kForeignOpening && got > 0; size += got) {
    got = read_on(opening_.data() + size, kForeignOpening - size);
  }
  opening_.resize(size);
  if (opens_like_shard(std::as_bytes(std::span(opening_))))
    throw UserError("{} is a shard of tokens, but text is asked for", name_);
  const std::string foreign = foreign_file(opening_, origin());
  if (!foreign.empty()) throw UserError("{}", foreign);
  if (opening_.starts_with(kByteOrderMark)) opening_.erase(0, kByteOrderMark.size());
}

size_t TextFile::read(char* text, size_t size) {
  if (opening_.empty()) return read_on(text, size);
  const size_t count = std::min(size, opening_.size());
  std::memcpy(text, opening_.data(), count);
  opening_.erase(0, count);
  return count;
}

size_t TextFile::read_on(char* text, size_t size) {
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
      if (more || !decompressor_->complete())
        step = decompressor_->step(input_.data() + begin_, end_ - begin_, text, size);
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

}  // namespace sluice
