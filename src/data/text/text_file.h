// A text file as a stream of bytes: unpacked where its first bytes say that it is zstd or gzip, without the byte order
// mark that it may begin with. What begins as no UTF-8 text does (data/text/foreign_file.h) is refused by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/files/files.h"
#include "data/text/decompress.h"
#include "data/text/foreign_file.h"
#include "data/text/text_inputs.h"

namespace sluice {

class TextFile {
 public:
  // A path, or "-" for the standard input. UserError if it cannot be opened or is no text.
  explicit TextFile(const std::string& path);

  // Up to `size` bytes of text; 0 at the end. UserError for damaged or cut compressed data.
  size_t read(char* text, size_t size);

  const std::string& name() const { return name_; }  // for messages
  FileOrigin origin() const { return {name_, file_ ? name_ : "", decompressor_ ? decompressor_->command() : ""}; }
  uint64_t bytes_taken() const { return bytes_taken_; }  // of the file itself, for progress

 private:
  bool refill();  // false at the end of the file
  void recognise();
  size_t read_on(char* text, size_t size);  // behind opening_

  std::string name_;
  std::optional<File> file_;  // none for the standard input
  int descriptor_;
  std::vector<char> input_;
  size_t begin_ = 0, end_ = 0;
  uint64_t bytes_taken_ = 0;
  bool at_end_ = false;
  std::unique_ptr<Decompressor> decompressor_;  // null: plain text
  std::string opening_;                         // text that was read to see what it is, and not handed out yet
};

}  // namespace sluice
