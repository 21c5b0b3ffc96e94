// The JSON library builds the whole value and refuses what is to be passed over here, so the line is
// scanned by hand, without recursion but along the field's own keys.
#include "data/text/json_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/utf8.h"

namespace sluice {
namespace {

struct SyntaxError {
  size_t at;  // byte of the line
  std::string reason;
};

struct DecodedString {
  std::string text;
  uint64_t surrogates = 0;  // without their other half
  uint32_t first_surrogate = 0;
};

class Scanner {
 public:
  explicit Scanner(std::string_view line) : line_(line) {}

  // The next byte that is no blank; 0 at the end.
  char peek() {
    while (at_ < line_.size() && is_blank(line_[at_])) ++at_;
    return at_ < line_.size() ? line_[at_] : '\0';
  }
  // Whether this is the next byte, which is then taken.
  bool take(char wanted) {
    if (peek() != wanted || at_ == line_.size()) return false;
    ++at_;
    return true;
  }
  void expect(char wanted, const char* what) {
    if (!take(wanted)) fail(fmt::format("{} is missing", what));
  }
  void expect_end() {
    peek();
    if (at_ < line_.size()) fail("text after the end of the JSON value");
  }

  // A string into `out`, which may be null.
  void string(DecodedString* out);
  // Any value, which is not kept.
  void skip_value();
  // The key of a member and its colon.
  void key(DecodedString* out) {
    if (peek() != '"') fail("a key in quotes is missing");
    string(out);
    expect(':', "the colon behind a key");
  }

  [[noreturn]] void fail(const std::string& reason) {
    if (peek() == '\0' && at_ == line_.size()) throw SyntaxError{at_, "the line ends within the JSON value"};
    throw SyntaxError{at_, reason};
  }

 private:
  static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
  bool is_digit() const { return at_ < line_.size() && line_[at_] >= '0' && line_[at_] <= '9'; }
  bool takes_here(char c) { return at_ < line_.size() && line_[at_] == c && ++at_; }
  void scalar();
  void number();
  void digits() {
    if (!is_digit()) fail("a number is not complete");
    while (is_digit()) ++at_;
  }
  uint32_t hex4();
  void escape(DecodedString* out);
  void unicode_escape(DecodedString* out);

  std::string_view line_;
  size_t at_ = 0;
};

void Scanner::string(DecodedString* out) {
  const size_t begin = at_++;
  while (true) {
    const size_t run = at_;
    while (at_ < line_.size() && line_[at_] != '"' && line_[at_] != '\\' &&
           static_cast<unsigned char>(line_[at_]) >= 0x20)
      ++at_;
    if (out) out->text.append(line_.substr(run, at_ - run));
    if (at_ == line_.size()) throw SyntaxError{begin, "the string that begins here is not closed"};
    if (takes_here('"')) return;
    if (line_[at_] != '\\') {
      const auto control = static_cast<unsigned char>(line_[at_]);
      throw SyntaxError{at_,
                        fmt::format("the control character 0x{:02X} stands in a string without an escape", control)};
    }
    escape(out);
  }
}

void Scanner::escape(DecodedString* out) {
  constexpr std::string_view kNames = "\"\\/bfnrt", kCharacters = "\"\\/\b\f\n\r\t";
  const size_t begin = at_++;
  if (takes_here('u')) return unicode_escape(out);
  const size_t name = at_ < line_.size() ? kNames.find(line_[at_]) : kNames.npos;
  if (name == kNames.npos) throw SyntaxError{begin, "this escape is none that JSON knows"};
  ++at_;
  if (out) out->text += kCharacters[name];
}

uint32_t Scanner::hex4() {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = at_ < line_.size() ? line_[at_] : '\0';
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) throw SyntaxError{at_, "\\u wants four hexadecimal digits"};
    value = value * 16 + uint32_t(digit);
  }
  return value;
}

void Scanner::unicode_escape(DecodedString* out) {
  uint32_t character = hex4();
  if (character >= 0xD800 && character < 0xDC00 && line_.substr(at_, 2) == "\\u") {
    const size_t second = at_;
    at_ += 2;
    const uint32_t low = hex4();
    if (low >= 0xDC00 && low < 0xE000) character = 0x10000 + ((character - 0xD800) << 10) + (low - 0xDC00);
    else at_ = second;  // a character of its own
  }
  if (!out) return;
  if (character >= 0xD800 && character < 0xE000) {
    if (out->surrogates++ == 0) out->first_surrogate = character;
    out->text += kReplacementCharacter;
  } else {
    append_utf8(out->text, character);
  }
}

void Scanner::number() {
  takes_here('-');
  if (line_.substr(at_).starts_with("Infinity")) {
    at_ += 8;
    return;
  }
  if (!takes_here('0')) digits();
  if (takes_here('.')) digits();
  if (takes_here('e') || takes_here('E')) {
    if (!takes_here('+')) takes_here('-');
    digits();
  }
}

void Scanner::scalar() {
  for (const std::string_view word : {"true", "false", "null", "NaN", "Infinity"}) {
    if (!line_.substr(at_).starts_with(word)) continue;
    at_ += word.size();
    return;
  }
  if (!is_digit() && (at_ == line_.size() || line_[at_] != '-')) fail("a value is missing");
  number();
}

void Scanner::skip_value() {
  std::string open;  // the brackets around
  do {
    const char first = peek();
    if (first == '{' || first == '[') {
      ++at_;
      if (!take(first == '{' ? '}' : ']')) {
        open += first;
        if (first == '{') key(nullptr);
        continue;
      }
    } else if (first == '"') {
      string(nullptr);
    } else {
      scalar();
    }
    // A value is over, and with it perhaps some of those around.
    while (!open.empty() && !take(',')) {
      if (!take(open.back() == '{' ? '}' : ']'))
        fail(fmt::format("a comma or '{}' is missing", open.back() == '{' ? '}' : ']'));
      open.pop_back();
    }
    if (!open.empty() && open.back() == '{') key(nullptr);
  } while (!open.empty());
}

// ---- the field ------------------------------------------------------------------------------------------------------

std::string kind_of(char first) {
  switch (first) {
    case '{': return "an object";
    case '[': return "a list";
    case 't':
    case 'f': return "true or false";
    case 'n': return "null";
    case '"': return "a string";
    default: return "a number";
  }
}

class FieldSearch {
 public:
  FieldSearch(Scanner& scanner, std::string_view field) : scanner_(scanner) { object(field, 1); }

  struct Value {
    int keys;  // on the way to it
    char first;
    DecodedString string;
  };
  std::optional<Value>& value() { return value_; }
  bool twice() const { return twice_; }
  const std::string& keys() const { return names_; }  // of the line itself, for a message

 private:
  void object(std::string_view rest, int depth) {
    scanner_.expect('{', "'{'");
    if (scanner_.take('}')) return;
    do {
      DecodedString key;
      scanner_.key(&key);
      if (depth == 1) note(key.text);
      const std::string_view name = key.text;
      if (name == rest) take_value(depth);
      else if (rest.size() > name.size() && rest[name.size()] == '.' && rest.starts_with(name) &&
               scanner_.peek() == '{')
        object(rest.substr(name.size() + 1), depth + 1);
      else scanner_.skip_value();
    } while (scanner_.take(','));
    scanner_.expect('}', "a comma or '}'");
  }

  void take_value(int depth) {
    Value value{depth, scanner_.peek(), {}};
    if (value.first == '"') scanner_.string(&value.string);
    else scanner_.skip_value();
    if (value_ && value_->keys < depth) return;
    twice_ = value_ && value_->keys == depth;
    value_ = std::move(value);
  }

  void note(const std::string& name) {
    constexpr size_t kMost = 60;
    if (names_.size() >= kMost) return;
    std::string shown = name.substr(0, character_boundary(name, kMost));
    std::replace_if(
        shown.begin(), shown.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
    names_ += fmt::format("{}\"{}\"", names_.empty() ? "" : ", ", shown);
  }

  Scanner& scanner_;
  std::optional<Value> value_;
  bool twice_ = false;
  std::string names_;
};

JsonLine bad(BadText fault, std::string reason) { return {fault, std::move(reason), 0}; }

JsonLine bad_syntax(std::string_view line, const SyntaxError& error) {
  const auto before = line.substr(0, error.at);
  const auto column = 1 + std::count_if(before.begin(), before.end(), [](char c) { return !is_utf8_continuation(c); });
  return bad(BadText::kNotJson, fmt::format("not valid JSON at column {}: {}", column, error.reason));
}

JsonLine no_field(std::string_view field, const std::string& keys) {
  return bad(BadText::kMissing,
             fmt::format("there is no \"{}\" in this line, which has {}; --field names where the text is", field,
                         keys.empty() ? "no keys" : keys));
}

JsonLine no_string(std::string_view field, char first) {
  return bad(first == 'n' ? BadText::kNull : BadText::kNoString,
             fmt::format(
                 "\"{}\" is {} in this line, not a string; --skip-bad leaves such lines out, --field names another key",
                 field, kind_of(first)));
}

}  // namespace

JsonLine read_json_line(std::string_view line, std::string_view field, bool replace_surrogates, std::string& text) {
  try {
    Scanner scanner(line);
    if (const char first = scanner.peek(); first != '{') {
      scanner.skip_value();
      scanner.expect_end();
      return bad(BadText::kNoObject,
                 fmt::format("this line is {}, not an object with a \"{}\"", kind_of(first), field));
    }
    FieldSearch search(scanner, field);
    scanner.expect_end();
    if (!search.value()) return no_field(field, search.keys());
    if (search.twice())
      return bad(BadText::kNotJson, fmt::format("not valid JSON: the key \"{}\" stands there twice", field));
    auto& [keys, first, string] = *search.value();
    if (first != '"') return no_string(field, first);
    if (string.surrogates > 0 && !replace_surrogates) {
      return bad(
          BadText::kSurrogate,
          fmt::format("\"{}\" has the surrogate \\u{:04x} without its other half, which is no character; --invalid "
                      "replace puts U+FFFD there, --skip-bad leaves such lines out",
                      field, string.first_surrogate));
    }
    text = std::move(string.text);
    return {BadText::kNone, "", string.surrogates};
  } catch (const SyntaxError& error) {
    return bad_syntax(line, error);
  }
}

bool is_json_object(std::string_view line) {
  try {
    Scanner scanner(line);
    if (scanner.peek() != '{') return false;
    scanner.skip_value();
    scanner.expect_end();
    return true;
  } catch (const SyntaxError&) {
    return false;
  }
}

}  // namespace sluice
