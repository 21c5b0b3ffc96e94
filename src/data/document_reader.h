// Documents from text files, one after another, with bounded memory.
//
// A document is a file; or, with a separator, what lies between two lines that are the separator; or in JSON lines the
// text field of one line. Text is checked to be UTF-8 and otherwise kept as it is.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/text_file.h"

namespace sluice {

struct TextOptions {
  std::string format = "auto";  // "text", "jsonl"; auto: jsonl where the name ends in .jsonl or .ndjson (.zst, .gz)
  std::string separator;        // a line; empty: a document is a file
  std::string field = "text";   // of JSON lines
  bool replace_invalid = false; // bytes that are no UTF-8 become U+FFFD instead of an error
  uint64_t max_document_bytes = 64'000'000;
  uint64_t split_bytes = 0;     // not 0: plain text is cut in documents of at most this size, and none is too long
};

class DocumentReader {
 public:
  DocumentReader(const std::vector<std::string>& inputs, TextOptions options);

  // The next document; empty ones are passed over. False at the end of the last file. UserError for text that is not
  // UTF-8, bad JSON, and a document that is too long; each names the file and the place in it.
  bool next(std::string& document);

  // Where the last document began: "FILE, line 7" or "FILE, from byte 120 of its text".
  struct Place {
    size_t file = 0;
    uint64_t begin = 0;
    int64_t line = 0;  // 0: not of JSON lines
  };
  const Place& place() const { return place_; }
  std::string text_of(const Place& place) const;

  uint64_t bytes_taken() const;                         // of the files as they lie there
  uint64_t bytes_total() const { return bytes_total_; } // 0: not known
  uint64_t replaced() const { return replaced_; }       // places where U+FFFD stands for bytes that were no UTF-8

 private:
  bool open_next_file();
  bool next_in_file(std::string& document);
  bool next_text(std::string& document);
  bool next_json(std::string& document);
  // The next line with its end, which stays valid until the next call; false at the end of the file. A line longer than
  // limit() is an error, or cut.
  bool next_line(std::string_view& line);
  bool splits() const { return options_.split_bytes > 0 && !jsonl_; }
  uint64_t limit() const { return splits() ? options_.split_bytes : options_.max_document_bytes; }
  bool fill();  // more text into buffer_; false at the end of the file
  void append_checked(std::string_view text, bool at_end);
  [[noreturn]] void too_long(const char* what, uint64_t begin) const;

  std::vector<std::string> paths_;
  TextOptions options_;
  size_t file_index_ = 0;
  std::unique_ptr<TextFile> file_;
  bool jsonl_ = false;
  std::string block_;           // as read: a character may be cut at its end
  std::string buffer_;          // checked text of this file that nobody took yet begins at begin_
  size_t begin_ = 0;
  uint64_t offset_ = 0;         // of buffer_[begin_] in the file's text
  uint64_t checked_ = 0;        // bytes of the file's text that were checked
  int64_t line_ = 0;            // of the last line taken, from 1
  Place place_;
  uint64_t bytes_total_ = 0, bytes_before_ = 0, replaced_ = 0;
};

}  // namespace sluice
