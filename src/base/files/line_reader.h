// Lines of a text that comes in pieces; a line is held in memory, and so has a limit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "base/files/files.h"

namespace sluice {

class LineReader {
 public:
  // `read` puts up to `size` bytes of the text at `to` and returns how many; 0 at the end. `name` is the file's in
  // messages.
  using Read = std::function<size_t(char* to, size_t size)>;
  LineReader(Read read, std::string name, uint64_t most_bytes);

  // The next line without its end ("\n" or "\r\n"); false at the end of the text. UserError for one that is too long.
  bool next(std::string& line);
  int64_t number() const { return number_; }  // of the last line, from 1
  std::string place() const;                  // "FILE, line 3"
  bool at_end();                              // no line follows

 private:
  bool fill();

  Read read_;
  std::string name_, buffer_;
  uint64_t most_bytes_;
  size_t begin_ = 0;
  int64_t number_ = 0;
};

// The bytes of a file from its beginning; it must outlive the reader.
LineReader::Read pieces_of(const File& file);

}  // namespace sluice
