// See document_reader.h.
#include "data/document_reader.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/json_text.h"
#include "base/utf8.h"

namespace sluice {
namespace {

constexpr size_t kBlock = 256 << 10;

bool is_json_lines(const std::string& path) {
  std::filesystem::path name(path);
  if (name.extension() == ".zst" || name.extension() == ".gz") name = name.stem();
  return name.extension() == ".jsonl" || name.extension() == ".ndjson";
}

std::string_view without_line_end(std::string_view line) {
  if (!line.empty() && line.back() == '\n') line.remove_suffix(1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

}  // namespace

DocumentReader::DocumentReader(const std::vector<std::string>& inputs, TextOptions options)
    : paths_(find_text_files(inputs)), options_(std::move(options)), bytes_total_(total_size(paths_)) {
  check(options_.max_document_bytes > 0, "a document's limit");
}

uint64_t DocumentReader::bytes_taken() const { return bytes_before_ + (file_ ? file_->bytes_taken() : 0); }

std::string DocumentReader::text_of(const Place& place) const {
  const std::string& path = paths_[place.file];
  const std::string name = path == kStandardInput ? "the standard input" : path;
  return place.line > 0 ? fmt::format("{}, line {}", name, place.line)
                        : fmt::format("{}, from byte {} of its text", name, place.begin);
}

bool DocumentReader::open_next_file() {
  if (file_) bytes_before_ += file_->bytes_taken();
  file_.reset();
  if (file_index_ == paths_.size()) return false;
  const std::string& path = paths_[file_index_++];
  file_ = std::make_unique<TextFile>(path);
  jsonl_ = options_.format == "jsonl" || (options_.format == "auto" && is_json_lines(path));
  block_.clear();
  buffer_.clear();
  begin_ = 0;
  offset_ = checked_ = 0;
  line_ = 0;
  return true;
}

bool DocumentReader::next(std::string& document) {
  do {
    while (file_ && next_in_file(document)) {
      if (!document.empty()) return true;
    }
  } while (open_next_file());
  return false;
}

bool DocumentReader::next_in_file(std::string& document) {
  document.clear();
  place_ = {file_index_ - 1, offset_, 0};
  if (!jsonl_) return next_text(document);
  const bool any = next_json(document);
  place_.line = line_;
  return any;
}

bool DocumentReader::next_text(std::string& document) {
  const uint64_t begin = offset_;
  std::string_view line;
  bool any = false;
  while (next_line(line)) {
    any = true;
    if (!options_.separator.empty() && without_line_end(line) == options_.separator) break;
    if (document.size() + line.size() > limit()) {
      if (!splits()) too_long("document", begin);
      if (!document.empty()) {  // the line is the next one's
        begin_ -= line.size();
        offset_ -= line.size();
        --line_;
        break;
      }
    }
    document += line;
  }
  return any;
}

bool DocumentReader::next_json(std::string& document) {
  std::string_view line;
  while (next_line(line)) {
    if (without_line_end(line).find_first_not_of(" \t") == line.npos) continue;
    const std::string place = fmt::format("{}, line {}", file_->name(), line_);
    Json json = parse_json(std::string(without_line_end(line)), place);
    const auto text = json.is_object() ? json.find(options_.field) : json.end();
    if (!json.is_object() || text == json.end() || !text->is_string()) {
      throw UserError("{}: there is no \"{}\" with a string in this line; --field names where the text is", place,
                      options_.field);
    }
    document = std::move(text->get_ref<std::string&>());
    return true;
  }
  return false;
}

bool DocumentReader::next_line(std::string_view& line) {
  size_t searched = begin_;
  while (true) {
    const void* end = searched < buffer_.size() ? std::memchr(buffer_.data() + searched, '\n', buffer_.size() - searched)
                                                : nullptr;
    size_t length = end ? size_t(static_cast<const char*>(end) - buffer_.data()) + 1 - begin_ : buffer_.size() - begin_;
    if (length > limit()) {
      if (!splits()) too_long(jsonl_ ? "line" : "document", offset_);
      length = std::max<size_t>(
          1, character_boundary(std::string_view(buffer_).substr(begin_), size_t(limit())));
      end = buffer_.data();
    }
    if (!end) {
      searched = buffer_.size() - begin_;
      if (fill()) continue;
      if (begin_ == buffer_.size()) return false;
    }
    line = std::string_view(buffer_).substr(begin_, length);
    begin_ += length;
    offset_ += length;
    ++line_;
    return true;
  }
}

bool DocumentReader::fill() {
  buffer_.erase(0, begin_);
  begin_ = 0;
  const size_t before = buffer_.size();
  while (buffer_.size() == before) {
    const size_t kept = block_.size();
    block_.resize(kept + kBlock);
    const size_t got = file_->read(block_.data() + kept, kBlock);
    block_.resize(kept + got);
    append_checked(block_, got == 0);
    if (got == 0) return buffer_.size() > before;
  }
  return true;
}

// What is left in block_ is the beginning of a character.
void DocumentReader::append_checked(std::string_view text, bool at_end) {
  while (!text.empty()) {
    const Utf8Scan scan = scan_utf8(text);
    buffer_.append(text.substr(0, scan.valid));
    checked_ += scan.valid;
    text.remove_prefix(scan.valid);
    if (text.empty() || (scan.incomplete && !at_end)) break;
    if (!options_.replace_invalid) {
      throw UserError("{} is not valid UTF-8: byte {} of its text is 0x{:02X}{}; --invalid replace puts U+FFFD there",
                      file_->name(), checked_, static_cast<unsigned char>(text[0]),
                      scan.incomplete ? ", and the text ends within the character" : "");
    }
    buffer_ += kReplacementCharacter;
    ++replaced_;
    checked_ += scan.bad;
    text.remove_prefix(scan.bad);
  }
  block_ = std::string(text);
}

void DocumentReader::too_long(const char* what, uint64_t begin) const {
  throw UserError("{}: the {} that begins at byte {} of its text is longer than {}, the limit that --max-document-mb sets{}",
                  file_->name(), what, begin, bytes_text(options_.max_document_bytes),
                  options_.separator.empty() && !jsonl_ ? "; if it is several documents, --separator names the line between them"
                                                        : "");
}

}  // namespace sluice
