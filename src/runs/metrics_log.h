// metrics.jsonl: one JSON object a line, appended.
//
// Numbers have the digits that give the same double back; what is not finite is written as null, so that every line is
// valid JSON. A checkpoint remembers position(); a resumed run cuts the file there, so no step stands twice, and a last
// line that a kill tore is cut when the file is opened.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "base/config/config.h"
#include "base/files/files.h"

namespace sluice {

struct MetricsPosition {
  uint64_t bytes = 0;
  int64_t lines = 0;
  bool operator==(const MetricsPosition&) const = default;
};

class MetricsLog {
 public:
  // Opens for appending, creates if need be, cuts a torn last line. Throws as File does.
  explicit MetricsLog(const std::filesystem::path& path);
  ~MetricsLog();  // flushes; what cannot be written then is lost
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  void append(const Json& object);  // keys keep their order; held in memory until flush()
  void flush();                     // to the system: call once a step. RunError if the disk is full; no torn line stays
  MetricsPosition sync();           // flush, to the disk; the position for a checkpoint to remember
  MetricsPosition position() const { return {written_.bytes + buffer_.size(), written_.lines + buffered_lines_}; }

  // Cuts everything after `position` (and what is not flushed yet). If the file has less than that, or other lines,
  // it was changed by someone: all of it that lies before `position` is kept, and the text to warn with is returned.
  std::optional<std::string> truncate_to(const MetricsPosition& position);

 private:
  File file_;
  MetricsPosition written_;
  std::string buffer_;
  int64_t buffered_lines_ = 0;
};

}  // namespace sluice
