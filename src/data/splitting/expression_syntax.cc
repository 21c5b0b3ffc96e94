// Where the dialects differ from PCRE2:
//
//   \s            White_Space; PCRE2 counts U+180E, too
//   \w            letters, marks, decimal and letter numbers, connectors, other alphabetic characters
//   \h \v         a hexadecimal digit; U+000B
//   \p{Han}       of the script itself, not of its extensions
//   {1,3}+ {2}?   in Ruby once more or not at all what stands before, not possessive and not lazy
//   {,3}          in Ruby from none to three
//   (?m:          in Ruby what PCRE2 calls s
#include "data/splitting/expression_syntax.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "base/utf8.h"

namespace sluice {
namespace {

// Members of classes.
constexpr std::string_view kBlanks =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNoBlanks =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e})"
    R"(\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
constexpr const char* kWord =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";
constexpr const char* kRubyWord = R"(\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";  // beside these
constexpr const char* kRustWord = R"(\x{200c}\x{200d})";
constexpr std::string_view kHexDigits = "0-9A-Fa-f";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

class Translator {
 public:
  Translator(std::string_view pattern, ExpressionDialect dialect)
      : pattern_(pattern), ruby_(dialect == ExpressionDialect::kRuby) {}

  std::string run() {
    if (scan_utf8(pattern_).valid != pattern_.size()) refuse("bytes that are not UTF-8");
    while (at_ < pattern_.size()) step();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view part) const {
    const size_t cut = character_boundary(pattern_, std::min<size_t>(pattern_.size(), 60));
    throw Unreadable{fmt::format("the expression {}{} has {}, which is not understood", pattern_.substr(0, cut),
                                 cut < pattern_.size() ? "..." : "", part)};
  }

  char peek(size_t ahead = 0) const { return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0'; }
  bool take(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }

  void step() {
    const char c = peek();
    if (c == '\\') {
      atom_ = out_.size();
      escape(false);
    } else if (c == '[') {
      atom_ = out_.size();
      char_class();
    } else if (c == '(') {
      open_group();
    } else if (c == ')') {
      close_group();
    } else if (c == '{') {
      braces();
    } else {
      if (std::string_view("*+?|^$").find(c) == std::string_view::npos) atom_ = out_.size();
      copy_character();
    }
  }

  void copy_character() {
    const size_t length = std::min(utf8_length(peek()), pattern_.size() - at_);
    out_ += pattern_.substr(at_, length);
    at_ += length;
  }

  // ---- groups --------------------------------------------------------------------------------------------------------

  void open_group() {
    groups_.push_back(out_.size());
    for (const std::string_view start : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (!take(start)) continue;
      out_ += start;
      return;
    }
    if (take("(?")) {
      group_options();
      return;
    }
    if (peek(1) == '*') refuse("\"(*\"");
    take("(");
    out_ += "(?:";  // nothing asks for what a group matched
  }

  void group_options() {
    out_ += "(?";
    for (;; ++at_) {
      const char c = peek();
      if (c == ':' || c == ')') {
        out_ += c;
        ++at_;
        if (c == ')') groups_.pop_back();
        return;
      }
      if (c == 'i' || c == '-') out_ += c;
      else if (ruby_ && c == 'm') out_ += 's';
      else if (!ruby_ && (c == 's' || c == 'm')) out_ += c;
      else refuse(fmt::format("the group \"(?{}\"", printable(pattern_.substr(at_))));
    }
  }

  void close_group() {
    if (groups_.empty()) refuse("a \")\" without its \"(\"");
    atom_ = groups_.back();
    groups_.pop_back();
    out_ += ')';
    ++at_;
  }

  // ---- quantifiers ---------------------------------------------------------------------------------------------------

  void braces() {
    size_t end = at_ + 1;
    while (end < pattern_.size() && (is_digit(pattern_[end]) || pattern_[end] == ',')) ++end;
    const std::string_view inside = pattern_.substr(at_ + 1, end - at_ - 1);
    const bool closed = end < pattern_.size() && pattern_[end] == '}';
    const auto commas = std::count(inside.begin(), inside.end(), ',');
    if (!closed || inside.empty() || commas > 1 || inside == ",") {
      if (!ruby_) refuse("a \"{\" that begins no number of repetitions");
      atom_ = out_.size();
      out_ += "\\{";
      ++at_;
      return;
    }
    if (inside[0] == ',' && !ruby_) refuse(fmt::format("the repetition {{{}}}", inside));
    out_ += fmt::format("{{{}{}}}", inside[0] == ',' ? "0" : "", inside);
    at_ = end + 1;
    if (ruby_ && (peek() == '+' || (peek() == '?' && commas == 0))) {
      out_.insert(atom_, "(?:");
      out_ += ')';
    }
  }

  // ---- escapes and classes -------------------------------------------------------------------------------------------

  static std::string printable(std::string_view text) {
    return std::string(text.substr(0, std::min(text.size(), text.empty() ? 0 : utf8_length(text[0]))));
  }

  // `inside`: of a class.
  void escape(bool inside) {
    ++at_;
    if (at_ >= pattern_.size()) refuse("a \"\\\" at its end");
    const char c = peek();
    const auto put = [&](std::string_view members) {
      out_ += inside ? std::string(members) : fmt::format("[{}]", members);
      ++at_;
    };
    const auto put_negated = [&](std::string_view members) {
      if (inside) refuse(fmt::format("\"\\{}\" within a class", c));
      out_ += fmt::format("[^{}]", members);
      ++at_;
    };
    const std::string word = std::string(kWord) + (ruby_ ? kRubyWord : kRustWord);
    switch (c) {
      case 's': return put(kBlanks);
      case 'S': return put(kNoBlanks);
      case 'w': return put(word);
      case 'W': return put_negated(word);
      case 'h': return put(kHexDigits);
      case 'H': return put_negated(kHexDigits);
      case 'd': return put(R"(\p{Nd})");
      case 'D': return put(R"(\P{Nd})");
      case 'v': return put(R"(\x{b})");
      case 'p':
      case 'P': return property();
      case 'x':
      case 'u': return code_point();
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'a':
      case 'e': break;
      case 'A':
      case 'z':
        if (!inside) break;
        [[fallthrough]];
      default:
        if (is_letter(c) || is_digit(c)) refuse(fmt::format("\"\\{}\"", c));
        if (static_cast<unsigned char>(c) >= 0x80) return copy_character();
    }
    out_ += '\\';
    out_ += c;
    ++at_;
  }

  void property() {
    bool negated = peek() == 'P';
    ++at_;
    std::string_view name = pattern_.substr(at_, 1);
    if (peek() == '{') {
      const size_t end = pattern_.find('}', at_);
      if (end == pattern_.npos) refuse("\"\\p{\" without its \"}\"");
      name = pattern_.substr(at_ + 1, end - at_ - 1);
      at_ = end + 1;
    } else {
      ++at_;
    }
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    if (name.empty() || !std::all_of(name.begin(), name.end(), [](char c) { return is_letter(c) || c == '_'; })) {
      refuse(fmt::format("the property \"{}\"", name));
    }
    static constexpr std::array kLongNames = {std::pair("Letter", "L"), std::pair("Number", "N"),
                                              std::pair("Mark", "M"),   std::pair("Punctuation", "P"),
                                              std::pair("Symbol", "S"), std::pair("Separator", "Z")};
    std::string spelled = name.size() <= 2 ? std::string(name) : fmt::format("sc:{}", name);
    for (const auto& [long_name, short_name] : kLongNames) {
      if (name == long_name) spelled = short_name;
    }
    out_ += fmt::format("\\{}{{{}}}", negated ? 'P' : 'p', spelled);
  }

  void code_point() {
    const bool u = peek() == 'u';
    ++at_;
    std::string_view digits;
    if (peek() == '{') {
      const size_t end = pattern_.find('}', at_);
      if (end == pattern_.npos) refuse("\"\\x{\" without its \"}\"");
      digits = pattern_.substr(at_ + 1, end - at_ - 1);
      at_ = end + 1;
    } else {
      digits = pattern_.substr(at_, u ? 4 : 2);
      at_ += digits.size();
    }
    uint32_t value = 0;
    const auto [rest, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    const bool whole = error == std::errc() && rest == digits.data() + digits.size();
    if (!whole || value > 0x10FFFF || (digits.size() == 2 && ruby_ && value >= 0x80)) {
      refuse(fmt::format("the character \"\\{}{}\"", u ? 'u' : 'x', digits));
    }
    out_ += fmt::format("\\x{{{:x}}}", value);
  }

  bool begins_set(size_t ahead) const {
    return peek(ahead) == '\\' && std::string_view("sSwWhHdDpP").find(peek(ahead + 1)) != std::string_view::npos;
  }

  void char_class() {
    out_ += '[';
    ++at_;
    if (take("^")) out_ += '^';
    if (peek() == ']') refuse("a class that begins with \"]\"");
    bool after_set = false;  // behind \s and the like, and before them, "-" is itself
    while (peek() != ']') {
      if (at_ >= pattern_.size()) refuse("a \"[\" without its \"]\"");
      if (peek() == '[') refuse("a \"[\" within a class");
      if (take("&&")) refuse("\"&&\" within a class");
      const bool set = begins_set(0);
      if (peek() == '-' && (after_set || begins_set(1))) out_ += '\\';
      if (peek() == '\\') {
        escape(true);
      } else {
        copy_character();
      }
      after_set = set;
    }
    out_ += ']';
    ++at_;
  }

  std::string_view pattern_;
  bool ruby_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = 0;             // where the last atom begins in `out_`
  std::vector<size_t> groups_;  // where the open groups begin
};

}  // namespace

std::string translate_expression(std::string_view pattern, ExpressionDialect dialect) {
  return Translator(pattern, dialect).run();
}

}  // namespace sluice
