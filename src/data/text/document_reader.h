// Documents from text files, one after another, with bounded memory.
//
// A document is a file; or, with a separator, what lies between two lines that are the separator; or in JSON lines the
// text field of one line. Text is checked to be UTF-8 and otherwise kept as it is, but for a byte order mark before it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/text/json_line.h"
#include "data/text/text_file.h"

namespace sluice {

struct TextOptions {
  // "text", "jsonl"; auto: jsonl where the name ends in .jsonl or .ndjson (.zst, .gz), or the first line is a JSON
  // object. What begins as JSON of another kind is an error then.
  std::string format = "auto";
  std::string separator;         // a line; empty: a document is a file
  std::string field = "text";    // of JSON lines; a.b for a field of a field
  bool replace_invalid = false;  // bytes that are no UTF-8, and lone surrogates, become U+FFFD instead of an error
  bool skip_bad = false;         // documents that would be an error are left out and counted
  bool keep_empty = false;       // documents without text are handed out too
  uint64_t max_document_bytes = 64'000'000;
  uint64_t split_bytes = 0;  // not 0: plain text is cut in documents of at most this size, and none is too long
};

// What became of the input.
struct TextReport {
  uint64_t replaced = 0;                               // places where U+FFFD stands for what was no character
  uint64_t empty = 0;                                  // documents without text that were passed over
  std::array<uint64_t, size_t(BadText::kNone)> bad{};  // documents left out, by their fault
  std::string first_bad;                               // a sentence on the first of them
  uint64_t json_files = 0;                             // that were read as JSON lines
  uint64_t json_by_content = 0;                        // of these, because of what they begin with
  std::string first_by_content;                        // the first of those

  uint64_t left_out() const;
  // What is worth a note, a sentence each.
  std::vector<std::string> notes() const;
};

// UserError that says why there is no document.
[[noreturn]] void throw_no_text(const TextReport& report);

class DocumentReader {
 public:
  DocumentReader(const std::vector<std::string>& inputs, TextOptions options);

  // The next document. False at the end of the last file. UserError for text that is not UTF-8, bad JSON, and a
  // document that is too long; each names the file and the place in it.
  bool next(std::string& document);

  // Where the last document began: "FILE, line 7" or "FILE, from byte 120 of its text".
  struct Place {
    size_t file = 0;
    uint64_t begin = 0;
    int64_t line = 0;  // 0: not of JSON lines
  };
  const Place& place() const { return place_; }
  std::string text_of(const Place& place) const;

  uint64_t bytes_taken() const;                          // of the files as they lie there
  uint64_t bytes_total() const { return bytes_total_; }  // 0: not known
  const TextReport& report() const { return report_; }

 private:
  enum class Line { kNone, kWhole, kPart };  // kPart: the beginning of one that is longer than limit()
  enum class Found { kEnd, kDocument, kNothing };

  bool open_next_file();
  bool next_in_file(std::string& document);
  Found next_text(std::string& document);
  Found next_json(std::string& document);
  bool append(std::string_view line, uint64_t begin, std::string& document);
  Line next_line(std::string_view& line);
  void give_back(std::string_view line);
  bool fill();  // more text into buffer_; false at the end of the file
  bool begins_as_json_lines();
  std::string_view first_line(bool& whole);
  bool is_separator(std::string_view line) const;
  // Replaces what is not UTF-8, or is false where that is a fault.
  bool check_utf8(std::string_view& line, std::string& reason);
  std::string too_long(const char* what, uint64_t begin) const;
  // An error, or with skip_bad only counted.
  void refuse(BadText fault, const std::string& sentence);
  bool splits() const { return options_.split_bytes > 0 && !jsonl_; }
  uint64_t limit() const { return splits() ? options_.split_bytes : options_.max_document_bytes; }

  std::vector<std::string> paths_;
  TextOptions options_;
  size_t file_index_ = 0;
  std::unique_ptr<TextFile> file_;
  bool jsonl_ = false, by_content_ = false;
  bool untouched_ = false;     // the file was opened and nothing taken
  bool at_line_start_ = true;  // the next line taken is no rest of one that was cut
  bool starts_line_ = true;    // likewise the last one taken
  bool continues_ = false;     // the next document is the rest of one that was cut
  std::string buffer_;         // text of this file that nobody took yet begins at begin_
  std::string replaced_line_;  // what a line became
  size_t begin_ = 0;
  uint64_t offset_ = 0;  // of buffer_[begin_] in the file's text
  int64_t line_ = 0;     // of the last line taken, from 1
  Place place_;
  uint64_t bytes_total_ = 0, bytes_before_ = 0;
  TextReport report_;
};

}  // namespace sluice
