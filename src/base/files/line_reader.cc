// Lines cut out of a growing buffer, and a file as pieces (line_reader.h).
#include "base/files/line_reader.h"

#include <utility>

#include "base/error.h"

namespace sluice {

namespace {

constexpr size_t kBlock = 256 << 10;

}  // namespace

LineReader::LineReader(Read read, std::string name, uint64_t most_bytes)
    : read_(std::move(read)), name_(std::move(name)), most_bytes_(most_bytes) {}

std::string LineReader::place() const { return fmt::format("{}, line {}", name_, number_); }

bool LineReader::fill() {
  buffer_.erase(0, begin_);
  begin_ = 0;
  const size_t before = buffer_.size();
  buffer_.resize(before + kBlock);
  const size_t got = read_(buffer_.data() + before, kBlock);
  buffer_.resize(before + got);
  return got > 0;
}

bool LineReader::at_end() { return begin_ == buffer_.size() && !fill(); }

bool LineReader::next(std::string& line) {
  size_t searched = 0, end = std::string::npos;
  while ((end = buffer_.find('\n', begin_ + searched)) == std::string::npos) {
    searched = buffer_.size() - begin_;
    if (searched > most_bytes_ || !fill()) break;
  }
  const bool any = begin_ < buffer_.size();
  if (!any) return false;
  ++number_;
  const size_t length = (end == std::string::npos ? buffer_.size() : end) - begin_;
  if (length > most_bytes_)
    throw UserError("{} has more than {}, the limit for a line of this file", place(), bytes_text(most_bytes_));
  line.assign(buffer_, begin_, length);
  if (!line.empty() && line.back() == '\r') line.pop_back();
  begin_ = end == std::string::npos ? buffer_.size() : end + 1;
  return true;
}

LineReader::Read pieces_of(const File& file) {
  return [&file, offset = uint64_t{0}](char* to, size_t size) mutable {
    const size_t got = file.read_at(offset, to, size);
    offset += got;
    return got;
  };
}

}  // namespace sluice
