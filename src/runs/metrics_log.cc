// Appending, syncing, and cutting back to a checkpoint's position (metrics_log.h).
#include "runs/metrics_log.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fcntl.h>

#include "base/error.h"

namespace sluice {

namespace {

// The whole lines among the first `limit` bytes of the file.
MetricsPosition whole_lines(const File& file, uint64_t limit) {
  std::vector<char> chunk(1 << 16);
  MetricsPosition out;
  uint64_t offset = 0;
  while (offset < limit) {
    const size_t got = file.read_at(offset, chunk.data(), size_t(std::min<uint64_t>(chunk.size(), limit - offset)));
    if (got == 0) break;
    for (size_t i = 0; i < got; ++i) {
      if (chunk[i] == '\n') ++out.lines, out.bytes = offset + i + 1;
    }
    offset += got;
  }
  return out;
}

}  // namespace

MetricsLog::MetricsLog(const std::filesystem::path& path) : file_(path, O_RDWR | O_CREAT | O_APPEND) {
  const uint64_t size = file_.size();
  written_ = whole_lines(file_, size);
  if (written_.bytes != size) file_.truncate(written_.bytes);
}

MetricsLog::~MetricsLog() {
  try {
    flush();
  } catch (const std::exception&) {
    // Nobody is left to tell; the loop flushes each step and has heard of it.
  }
}

void MetricsLog::append(const Json& object) {
  check(object.is_object(), "a metrics line must be an object");
  // Text that is not UTF-8 (a file's name) must not end a run: its bytes are replaced.
  buffer_ += object.dump(-1, ' ', false, Json::error_handler_t::replace);
  buffer_ += '\n';
  ++buffered_lines_;
}

void MetricsLog::flush() {
  if (buffer_.empty()) return;
  const std::string text = std::exchange(buffer_, {});
  const int64_t lines = std::exchange(buffered_lines_, 0);
  try {
    file_.write(text.data(), text.size());
  } catch (...) {
    try {
      file_.truncate(written_.bytes);
    } catch (const std::exception&) {
      // The write's own error says what is wrong; a torn line is cut when the file is opened again.
    }
    throw;
  }
  written_.bytes += text.size();
  written_.lines += lines;
}

MetricsPosition MetricsLog::sync() {
  flush();
  file_.sync();
  return written_;
}

std::optional<std::string> MetricsLog::truncate_to(const MetricsPosition& position) {
  buffer_.clear();
  buffered_lines_ = 0;
  const MetricsPosition found = whole_lines(file_, position.bytes);
  file_.truncate(found.bytes);
  written_ = found;
  if (found == position) return std::nullopt;
  return fmt::format("{} was changed: the checkpoint remembers {} lines ({} bytes), of which {} ({} bytes) are left",
                     file_.path().string(), position.lines, position.bytes, found.lines, found.bytes);
}

}  // namespace sluice
