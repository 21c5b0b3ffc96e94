// Reads JSON through the library's event interface, because its own reader accepts a key twice (and keeps one of the
// two) and reports errors in its own terms. An iterator that counts what was consumed gives the position of a key.
#include "base/config/json_text.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/config/json_reader.h"
#include "base/error.h"
#include "base/files/input_file.h"
#include "base/limits.h"

namespace sluice {
namespace {

// Counts characters as the lexer takes them; copies share the counter.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, size_t* consumed) : at_(at), consumed_(consumed) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_, ++*consumed_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  size_t* consumed_;
};

struct Place {
  size_t line = 1, column = 1;
};

Place place_of(const std::string& text, size_t offset) {
  offset = std::min(offset, text.size());
  Place place;
  for (size_t i = 0; i < offset; ++i) {
    if (text[i] == '\n') {
      ++place.line, place.column = 1;
    } else {
      ++place.column;
    }
  }
  return place;
}

// Why the text at `offset` is not JSON, in words for people who write it by hand.
std::string reason(const std::string& text, size_t offset, const std::string& from_library) {
  const std::string rest = text.substr(std::min(offset, text.size()), 12);
  const auto starts = [&](const char* word) { return rest.rfind(word, 0) == 0; };
  if (rest.empty()) return "the text ends too early (a bracket or a quote is not closed)";
  if (from_library.find("surrogate") != std::string::npos)
    return "a lone surrogate here, which is half of a character (\\ud800 to \\udbff must be followed by \\udc00 to "
           "\\udfff)";
  if (from_library.find("invalid string") != std::string::npos)
    return "the string here is not closed, or has a bad escape";
  if (starts("//") || starts("/*") || starts("#")) return "JSON has no comments";
  if (starts("NaN") || starts("nan") || starts("Inf") || starts("inf") || starts("-Inf") || starts("-inf")) {
    return "JSON has no NaN or infinity";
  }
  if (starts("'")) return "JSON strings take double quotes";
  if (starts("True") || starts("False") || starts("None")) return "JSON writes true, false and null";
  if (from_library.find("expected end of input") != std::string::npos) return "text after the end of the JSON value";
  if (starts("}") || starts("]"))
    return fmt::format("'{}' comes too early (a comma before it, or a value missing)", rest[0]);
  if (from_library.find("number overflow") != std::string::npos) return "this number is too large for a double";
  const std::string word = rest.substr(0, rest.find_first_of(" \t\r\n,:{}[]"));
  return fmt::format("unexpected \"{}\"", word.empty() ? rest.substr(0, 1) : word);
}

// Where the token begins that the lexer gave up on, having read `position` characters (one more than there are at the
// end of the text). Inside a broken string it is the character that broke it.
size_t start_of_token(const std::string& text, size_t position, const std::string& from_library) {
  if (position > text.size() || position == 0) return text.size();
  size_t start = position - 1;
  if (from_library.find("invalid string") != std::string::npos) return start;
  if (text[start] == '"') {
    const size_t quote = start == 0 ? std::string::npos : text.rfind('"', start - 1);
    return quote == std::string::npos ? start : quote;
  }
  const auto in_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || std::strchr("+-._", c); };
  while (start > 0 && in_word(text[start]) && in_word(text[start - 1])) --start;
  return start;
}

// ---- what is no JSON but meant as such ------------------------------------------------------------------------------

// The text as JSON has it, and where it became longer or shorter, so that places in messages are the file's.
class Lenient {
 public:
  Lenient(const std::string& text, const JsonOptions& options) : from_(text), options_(options) {
    text_.reserve(text.size());
    while (at_ < from_.size()) {
      if (from_[at_] == '"') string();
      else if (options_.non_finite && starts_number()) number();
      else text_ += from_[at_++];
    }
  }

  const std::string& text() const { return text_; }

  size_t original(size_t offset) const {
    const auto after = std::upper_bound(shifts_.begin(), shifts_.end(), offset,
                                        [](size_t value, const Shift& shift) { return value < shift.at; });
    return after == shifts_.begin() ? offset : size_t(std::ptrdiff_t(offset) + std::prev(after)->by);
  }

 private:
  struct Shift {
    size_t at;          // in the new text, from here on
    std::ptrdiff_t by;  // the old place less the new one
  };

  // The code unit of an escape \uXXXX at `at`; -1 for anything else.
  int code_unit(size_t at) const {
    if (at + 6 > from_.size() || from_[at] != '\\' || from_[at + 1] != 'u') return -1;
    int value = 0;
    const char* end = from_.data() + at + 6;
    const auto read = std::from_chars(from_.data() + at + 2, end, value, 16);
    return read.ec == std::errc() && read.ptr == end && value >= 0 ? value : -1;
  }

  void copy(size_t count) {
    count = std::min(count, from_.size() - at_);
    text_.append(from_, at_, count);
    at_ += count;
  }

  void string() {
    copy(1);
    while (at_ < from_.size() && from_[at_] != '"') {
      if (from_[at_] != '\\') copy(1);
      else escape();
    }
    copy(1);
  }

  void escape() {
    const int unit = code_unit(at_), next = code_unit(at_ + 6);
    const bool high = unit >= 0xD800 && unit < 0xDC00, low = unit >= 0xDC00 && unit < 0xE000;
    if (high && next >= 0xDC00 && next < 0xE000) return copy(12);
    if (!options_.replace_surrogates || (!high && !low)) return copy(2);
    text_ += "\\ufffd";
    at_ += 6;
  }

  bool starts_number() const {
    const bool sign = from_[at_] == '-' && at_ + 1 < from_.size();
    const char first = from_[at_ + (sign ? 1 : 0)];
    return first == 'N' || first == 'I' || (first >= '0' && first <= '9');
  }

  void number() {
    const size_t end = std::min(from_.find_first_of(" \t\r\n,:{}[]\"", at_), from_.size());
    const std::string word = from_.substr(at_, end - at_);
    const bool name = word == "NaN" || word == "-NaN" || word == "Infinity" || word == "-Infinity";
    if (!name && !is_too_large(word)) return copy(word.size());
    text_ += "null";
    at_ = end;
    shifts_.push_back({text_.size(), std::ptrdiff_t(at_) - std::ptrdiff_t(text_.size())});
  }

  static bool is_too_large(const std::string& word) {
    if (!std::isinf(std::strtod(word.c_str(), nullptr))) return false;
    std::string_view rest = word;
    if (rest.starts_with('-')) rest.remove_prefix(1);
    const bool one_zero = rest.starts_with('0');
    const size_t whole = take_digits(rest);
    if (whole == 0 || (one_zero && whole > 1)) return false;
    if (rest.starts_with('.') && (rest.remove_prefix(1), take_digits(rest) == 0)) return false;
    if (rest.starts_with('e') || rest.starts_with('E')) {
      rest.remove_prefix(1);
      if (rest.starts_with('-') || rest.starts_with('+')) rest.remove_prefix(1);
      if (take_digits(rest) == 0) return false;
    }
    return rest.empty();
  }

  // Takes the digits off the front; how many there were.
  static size_t take_digits(std::string_view& text) {
    const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    text.remove_prefix(digits);
    return digits;
  }

  const std::string& from_;
  const JsonOptions options_;
  std::string text_;
  std::vector<Shift> shifts_;
  size_t at_ = 0;
};

// ---- the value ------------------------------------------------------------------------------------------------------

// Builds the value. The stack holds the open arrays and objects; pointers stay valid because only the innermost
// container grows.
class Builder : public nlohmann::json_sax<Json> {
 public:
  // `place` says where in the file an offset of `text` is.
  Builder(const std::string& text, const std::string& name, const size_t& consumed, std::function<Place(size_t)> place)
      : text_(text), name_(name), consumed_(consumed), place_(std::move(place)) {}

  Json take() { return std::move(root_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second) {
      fail(consumed_ - std::min(consumed_, name.size() + 2),
           fmt::format("the key \"{}\" stands here a second time", excerpt(name, kMostQuoted)));
    }
    key_ = name;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception& error) override {
    const size_t start = start_of_token(text_, position, error.what());
    fail(start, reason(text_, start, error.what()));
  }

 private:
  [[noreturn]] void fail(size_t offset, const std::string& why) const {
    const Place place = place_(offset);
    throw JsonError(name_, place.line, place.column, why);
  }

  Json* insert(Json value) {
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    // The object searches all its keys for one that it is given; this one is known to be new.
    auto& members = parent.get_ref<Json::object_t&>();
    members.emplace_back(key_, std::move(value));
    return &members.back().second;
  }
  bool put(Json value) { return insert(std::move(value)), true; }
  bool open(Json value) {
    if (stack_.size() == size_t(kMaxJsonDepth))
      fail(consumed_ - std::min<size_t>(consumed_, 1),
           fmt::format("more than {} brackets are open here", kMaxJsonDepth));
    stack_.push_back(insert(std::move(value)));
    keys_.emplace_back();
    return true;
  }
  bool close() {
    stack_.pop_back();
    keys_.pop_back();
    return true;
  }

  const std::string& text_;
  const std::string& name_;
  const size_t& consumed_;
  const std::function<Place(size_t)> place_;
  Json root_;
  std::vector<Json*> stack_;
  std::vector<std::unordered_set<std::string>> keys_;  // of the objects on the stack
  std::string key_;
};

Json build(const std::string& text, const std::string& name, std::function<Place(size_t)> place) {
  size_t consumed = 0;
  Builder builder(text, name, consumed, std::move(place));
  const char* begin = text.data();
  Json::sax_parse(CountingIterator(begin, &consumed), CountingIterator(begin + text.size(), &consumed), &builder);
  return builder.take();
}

}  // namespace

Json parse_json(const std::string& text, const std::string& name, const JsonOptions& options) {
  try {
    return build(text, name, [&](size_t offset) { return place_of(text, offset); });
  } catch (const JsonError&) {  // rare, so nothing is looked for in texts that are JSON
    if (!options.non_finite && !options.replace_surrogates) throw;
  }
  const Lenient lenient(text, options);
  return build(lenient.text(), name, [&](size_t offset) { return place_of(text, lenient.original(offset)); });
}

Json read_json_file(const std::string& path, uint64_t most_bytes, const char* what, const JsonOptions& options) {
  return parse_json(read_file_or_pipe(path, most_bytes, what), path, options);
}

Json read_json_file(const std::string& path, const JsonOptions& options) {
  return read_json_file(path, kMostConfigBytes, "a JSON file", options);
}

}  // namespace sluice
