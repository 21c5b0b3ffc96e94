// Documents by file, separator line or line of JSON: found, checked, and refused with their place (document_reader.h).
#include "data/text/document_reader.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace sluice {
namespace {

constexpr size_t kBlock = 256 << 10;
constexpr const char* kBlanks = " \t\r\n";

std::string ending_of(const std::string& path) {
  std::filesystem::path name(path);
  if (const auto packed = name.extension();
      packed == ".zst" || packed == ".zstd" || packed == ".gz" || packed == ".gzip") {
    name = name.stem();
  }
  return name.extension().string();
}

std::string_view without_line_end(std::string_view line) {
  if (!line.empty() && line.back() == '\n') line.remove_suffix(1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

// Whether `text` begins with these characters, blanks aside.
bool begins_with(std::string_view text, std::string_view characters) {
  for (const char character : characters) {
    text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
    if (!text.starts_with(character)) return false;
    text.remove_prefix(1);
  }
  return true;
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

void DocumentReader::refuse(BadText fault, const std::string& sentence) {
  const std::string told = sentence + (by_content_ ? " (the file was taken for JSON lines by its first line; --format "
                                                     "text takes the lines as text)"
                                                   : "");
  if (!options_.skip_bad) throw UserError("{}", told);
  if (report_.left_out() == 0) report_.first_bad = told;
  ++report_.bad[size_t(fault)];
}

// ---- files ----------------------------------------------------------------------------------------------------------

bool DocumentReader::open_next_file() {
  if (file_) bytes_before_ += file_->bytes_taken();
  file_.reset();
  if (file_index_ == paths_.size()) return false;
  const std::string& path = paths_[file_index_++];
  file_ = std::make_unique<TextFile>(path);
  buffer_.clear();
  begin_ = 0;
  offset_ = 0;
  line_ = 0;
  continues_ = false;
  untouched_ = at_line_start_ = true;
  const std::string ending = ending_of(path);
  const bool named = ending == ".jsonl" || ending == ".ndjson" || ending == ".jsonlines";
  by_content_ = options_.format == "auto" && !named && begins_as_json_lines();
  jsonl_ = options_.format == "jsonl" || (options_.format == "auto" && named) || by_content_;
  report_.json_files += jsonl_;
  report_.json_by_content += by_content_;
  if (by_content_ && report_.json_by_content == 1) report_.first_by_content = file_->name();
  return true;
}

// The first line that is not blank, which stays; empty where the file's first part is blank. `whole`: it is all there.
std::string_view DocumentReader::first_line(bool& whole) {
  size_t begin = 0;
  while ((begin = buffer_.find_first_not_of(kBlanks)) == buffer_.npos) {
    if (buffer_.size() >= kBlock || !fill()) return {};
  }
  const char opening = buffer_[begin];
  if (opening != '{' && opening != '[') return {};
  size_t end = buffer_.npos;
  for (size_t searched = begin; (end = buffer_.find('\n', searched)) == buffer_.npos;) {
    searched = buffer_.size();
    if (buffer_.size() - begin > options_.max_document_bytes || !fill()) break;
  }
  whole = end != buffer_.npos || buffer_.size() - begin <= options_.max_document_bytes;
  return std::string_view(buffer_).substr(begin, end == buffer_.npos ? buffer_.npos : end - begin);
}

// Raw JSON is no text to learn from: what begins as JSON is read as JSON lines where it is that, and else asked about.
bool DocumentReader::begins_as_json_lines() {
  bool whole = false;
  const std::string_view line = first_line(whole);
  if (line.empty()) return false;
  const bool named = ending_of(file_->name()) == ".json";
  const std::string_view text = std::string_view(buffer_).substr(size_t(line.data() - buffer_.data()));
  const bool object = begins_with(text, "{\""), list = begins_with(text, "[{\"") || (named && text[0] == '[');
  if (!options_.separator.empty() && !named) return false;
  if (whole && (object || named) && is_json_object(line)) return true;
  if (!object && !list) return false;
  if (list) {
    throw UserError(
        "{} begins as a list of JSON values, not as JSON lines: `{}` reads its objects, "
        "--format text takes the file as plain text",
        file_->name(), piped(file_->origin(), "jq -c '.[]'"));
  }
  throw UserError(
      "{} begins as JSON, but its first line is not one whole object: if it is one object over several lines "
      "`{}` reads it; --format jsonl takes each line as JSON, --format text the file as plain text",
      file_->name(), piped(file_->origin(), "jq -c ."));
}

bool DocumentReader::next(std::string& document) {
  do {
    while (file_ && next_in_file(document)) {
      if (!document.empty() || options_.keep_empty) return true;
      ++report_.empty;
    }
  } while (open_next_file());
  return false;
}

bool DocumentReader::next_in_file(std::string& document) {
  while (true) {
    document.clear();
    place_ = {file_index_ - 1, offset_, 0};
    const Found found = jsonl_ ? next_json(document) : next_text(document);
    if (jsonl_) place_.line = line_;
    if (found != Found::kNothing) return found == Found::kDocument;
  }
}

// ---- documents ------------------------------------------------------------------------------------------------------

bool DocumentReader::is_separator(std::string_view line) const {
  return !options_.separator.empty() && without_byte_order_mark(without_line_end(line)) == options_.separator;
}

DocumentReader::Found DocumentReader::next_text(std::string& document) {
  const uint64_t begin = offset_;
  const bool untouched = std::exchange(untouched_, false), continues = std::exchange(continues_, false);
  std::string_view line;
  bool any = false, left_out = false;
  for (Line got; (got = next_line(line)) != Line::kNone; any = true) {
    if (got == Line::kWhole && starts_line_ && is_separator(line)) {
      // What stands before a file's first separator is a document only if it is something.
      return left_out || (untouched && !any) ? Found::kNothing : Found::kDocument;
    }
    if (left_out) continue;
    if (!any && !continues) line = without_byte_order_mark(line);
    if (splits() && !document.empty() && document.size() + line.size() > limit()) {
      give_back(line);
      continues_ = true;
      return Found::kDocument;
    }
    left_out = !append(line, begin, document);
  }
  if (left_out) return Found::kNothing;
  return any || (untouched && options_.separator.empty()) ? Found::kDocument : Found::kEnd;
}

// False where the document that began at `begin` is left out for this line.
bool DocumentReader::append(std::string_view line, uint64_t begin, std::string& document) {
  std::string invalid;
  if (!check_utf8(line, invalid)) {
    refuse(BadText::kInvalid, invalid);
  } else if (!splits() && document.size() + line.size() > limit()) {
    refuse(BadText::kTooLong, too_long("document", begin));
  } else {
    document += line;
    return true;
  }
  document.clear();
  return false;
}

DocumentReader::Found DocumentReader::next_json(std::string& document) {
  std::string_view line;
  const uint64_t begin = offset_;
  Line got = next_line(line);
  if (got == Line::kNone) return Found::kEnd;
  if (got == Line::kPart) {
    refuse(BadText::kTooLong, too_long("line", begin));
    while (got == Line::kPart) got = next_line(line);
    return Found::kNothing;
  }
  std::string invalid;
  line = without_byte_order_mark(without_line_end(line));
  if (line.find_first_not_of(kBlanks) == line.npos) return Found::kNothing;
  if (!check_utf8(line, invalid)) {
    refuse(BadText::kInvalid, invalid);
    return Found::kNothing;
  }
  const JsonLine json = read_json_line(line, options_.field, options_.replace_invalid, document);
  report_.replaced += json.replaced;
  if (json.fault == BadText::kNone) return Found::kDocument;
  refuse(json.fault, fmt::format("{}, line {}: {}", file_->name(), line_, json.reason));
  return Found::kNothing;
}

// ---- lines ----------------------------------------------------------------------------------------------------------

// With its end; `line` stays valid until the next call.
DocumentReader::Line DocumentReader::next_line(std::string_view& line) {
  size_t searched = begin_;
  while (true) {
    const size_t reach = begin_ + std::min<size_t>(buffer_.size() - begin_, size_t(limit()) + 1);
    const void* end = searched < reach ? std::memchr(buffer_.data() + searched, '\n', reach - searched) : nullptr;
    size_t length = (end ? size_t(static_cast<const char*>(end) - buffer_.data()) + 1 : reach) - begin_;
    const bool part = length > limit();
    if (part) {  // cut before a character, which has no more than three bytes behind its first
      length = size_t(limit());
      for (int i = 0; i < 3 && length > 1 && is_utf8_continuation(buffer_[begin_ + length]); ++i) --length;
    } else if (!end) {
      searched = reach - begin_;
      if (fill()) continue;
      if (begin_ == buffer_.size()) return Line::kNone;
    }
    line = std::string_view(buffer_).substr(begin_, length);
    begin_ += length;
    offset_ += length;
    starts_line_ = std::exchange(at_line_start_, !part);
    line_ += !part;
    return part ? Line::kPart : Line::kWhole;
  }
}

void DocumentReader::give_back(std::string_view line) {
  begin_ -= line.size();
  offset_ -= line.size();
  at_line_start_ = starts_line_;
}

bool DocumentReader::fill() {
  buffer_.erase(0, begin_);
  begin_ = 0;
  const size_t kept = buffer_.size();
  buffer_.resize(kept + kBlock);
  const size_t got = file_->read(buffer_.data() + kept, kBlock);
  buffer_.resize(kept + got);
  return got > 0;
}

bool DocumentReader::check_utf8(std::string_view& line, std::string& reason) {
  Utf8Scan scan = scan_utf8(line);
  if (scan.valid == line.size()) return true;
  if (!options_.replace_invalid) {
    const uint64_t at = offset_ - uint64_t(buffer_.data() + begin_ - line.data()) + scan.valid;
    reason = fmt::format(
        "{} is not valid UTF-8: byte {} of its text is 0x{:02X}{}; --invalid replace puts U+FFFD there, "
        "iconv converts text in another encoding",
        file_->name(), at, static_cast<unsigned char>(line[scan.valid]),
        scan.incomplete ? ", and the text ends within the character" : "");
    return false;
  }
  replaced_line_.clear();
  while (true) {
    replaced_line_ += line.substr(0, scan.valid);
    line.remove_prefix(scan.valid);
    if (line.empty()) break;
    replaced_line_ += kReplacementCharacter;
    ++report_.replaced;
    line.remove_prefix(scan.bad);
    scan = scan_utf8(line);
  }
  line = replaced_line_;
  return true;
}

std::string DocumentReader::too_long(const char* what, uint64_t begin) const {
  return fmt::format(
      "{}: the {} that begins at byte {} of its text is longer than {}, the limit that --max-document-mb sets{}",
      file_->name(), what, begin, bytes_text(options_.max_document_bytes),
      options_.separator.empty() && !jsonl_ ? "; if it is several documents, --separator names the line between them"
                                            : "");
}

}  // namespace sluice
