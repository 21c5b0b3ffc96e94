// A text file as a stream of bytes, decompressed where its first bytes say that it is zstd or gzip.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"

namespace sluice {

inline constexpr const char* kStandardInput = "-";

// What turns the file's bytes into text. One call takes some of [input, input + size) and gives some of the text.
class Decompressor {
 public:
  struct Step {
    size_t taken = 0, given = 0;
  };
  virtual ~Decompressor() = default;
  // Throws std::runtime_error with the library's reason for damaged bytes.
  virtual Step step(const char* input, size_t size, char* text, size_t room) = 0;
  virtual bool complete() const = 0;  // what came so far may be all there is
};

class TextFile {
 public:
  // A path, or "-" for the standard input. UserError if it cannot be opened.
  explicit TextFile(const std::string& path);

  // Up to `size` bytes of text; 0 at the end. UserError for damaged or cut compressed data.
  size_t read(char* text, size_t size);

  const std::string& name() const { return name_; }       // for messages
  uint64_t bytes_taken() const { return bytes_taken_; }   // of the file itself, for progress

 private:
  bool refill();          // false at the end of the file
  void recognise();

  std::string name_;
  std::optional<File> file_;  // none for the standard input
  int descriptor_;
  std::vector<char> input_;
  size_t begin_ = 0, end_ = 0;
  uint64_t bytes_taken_ = 0;
  bool at_end_ = false;
  std::unique_ptr<Decompressor> decompressor_;  // null: plain text
};

// The files that `inputs` name: files, "-", globs, and folders with all that is in them (but hidden files), each in
// alphabetical order. UserError for what is not there.
std::vector<std::string> find_text_files(const std::vector<std::string>& inputs);

// Their sizes together; 0 if one is no regular file, so that the total is not known.
uint64_t total_size(const std::vector<std::string>& paths);

}  // namespace sluice
