// Reads JSON through the library's event interface, because its own reader accepts a key twice (and keeps one of the
// two) and reports errors in its own terms. An iterator that counts what was consumed gives the position of a key.
#include "base/json_text.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"

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

// Builds the value. The stack holds the open arrays and objects; pointers stay valid because only the innermost
// container grows.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(const std::string& text, const std::string& name, const size_t& consumed)
      : text_(text), name_(name), consumed_(consumed) {}

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
           fmt::format("the key \"{}\" stands here a second time", name));
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
    const Place place = place_of(text_, offset);
    throw UserError("{}:{}:{}: not valid JSON: {}", name_, place.line, place.column, why);
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
  Json root_;
  std::vector<Json*> stack_;
  std::vector<std::unordered_set<std::string>> keys_;  // of the objects on the stack
  std::string key_;
};

}  // namespace

Json parse_json(const std::string& text, const std::string& name) {
  size_t consumed = 0;
  Builder builder(text, name, consumed);
  const char* begin = text.data();
  Json::sax_parse(CountingIterator(begin, &consumed), CountingIterator(begin + text.size(), &consumed), &builder);
  return builder.take();
}

Json read_json_file(const std::string& path) {
  if (std::filesystem::is_directory(path)) throw UserError("cannot read \"{}\": it is a folder, not a file", path);
  std::ifstream file(path, std::ios::binary);
  if (!file) throw UserError("cannot read \"{}\": {}", path, std::strerror(errno));
  std::ostringstream text;
  text << file.rdbuf();
  if (file.bad()) throw UserError("cannot read \"{}\": {}", path, std::strerror(errno));
  return parse_json(text.str(), path);
}

}  // namespace sluice
