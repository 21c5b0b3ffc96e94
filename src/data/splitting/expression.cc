// Expressions compiled and matched by PCRE2, with its limits, and characters that it does not know yet (expression.h).
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/splitting/expression.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>

#include "base/error.h"
#include "base/utf8.h"
#include "data/splitting/expression_syntax.h"

namespace sluice {
namespace {

constexpr size_t kLongestPattern = 1 << 16;        // bytes
constexpr size_t kMostJitStack = size_t{8} << 20;  // bytes
constexpr uint32_t kMostHeap = 256 * 1024;         // KiB, where there is no just-in-time compiler
constexpr uint32_t kMostSteps = 50'000'000;        // of one match

// Characters of Unicode 16 that Unicode 14 (PCRE2 10.42) does not have, or has in another category, and one of the same
// category and length in UTF-8 that every PCRE2 knows.
struct NewCharacters {
  char32_t first, last, like;
};
constexpr NewCharacters kNewCharacters[] = {
#include "data/splitting/unicode_newer.inc"
};

// Which blocks of 256 characters have any of them.
const std::array<bool, 0x1100>& new_blocks() {
  static const auto blocks = [] {
    std::array<bool, 0x1100> found{};
    for (const NewCharacters& range : kNewCharacters) {
      for (char32_t block = range.first >> 8; block <= range.last >> 8; ++block) found[block] = true;
    }
    return found;
  }();
  return blocks;
}

char32_t stand_in(char32_t character) {
  if (!new_blocks()[character >> 8]) return character;
  const auto* range = std::lower_bound(std::begin(kNewCharacters), std::end(kNewCharacters), character,
                                       [](const NewCharacters& one, char32_t c) { return one.last < c; });
  return range != std::end(kNewCharacters) && range->first <= character ? range->like : character;
}

// Puts a copy into `copy` if `text` has such characters; they need three bytes or more.
bool put_stand_ins(std::string_view text, std::string& copy) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text[at]);
    if (length >= 3) {
      std::string_view rest = text.substr(at);
      const char32_t character = take_character(rest), like = stand_in(character);
      if (like != character) {
        if (copy.empty()) copy = text;
        std::string spelled;
        append_utf8(spelled, like);
        copy.replace(at, length, spelled);
      }
    }
    at += length;
  }
  return !copy.empty();
}

// What a thread needs to match, whichever the expression.
struct Scratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(size_t{32} << 10, kMostJitStack, nullptr);
  Scratch() {
    if (!data || !context) throw RunError("there is no memory for a regular expression");
    pcre2_set_match_limit(context, kMostSteps);
    pcre2_set_heap_limit(context, kMostHeap);
    if (stack) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Scratch() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

Scratch& scratch() {
  thread_local Scratch here;
  return here;
}

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

uint32_t options_of(ExpressionDialect dialect) {
  // In Ruby ^ and $ are always those of lines; in Rust they are those of the text.
  return PCRE2_UTF | PCRE2_UCP | (dialect == ExpressionDialect::kRuby ? PCRE2_MULTILINE : PCRE2_DOLLAR_ENDONLY);
}

std::string shortened(std::string_view text) {
  if (text.size() <= 60) return std::string(text);
  return std::string(text.substr(0, character_boundary(text, 60))) + "...";
}

}  // namespace

void Expression::Free::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

Expression::Expression(std::string_view pattern, ExpressionDialect dialect)
    : Expression(pattern.size() > kLongestPattern
                     ? throw Unreadable{fmt::format("an expression has {} bytes; the most is {}", pattern.size(),
                                                    kLongestPattern)}
                     : translate_expression(pattern, dialect),
                 pattern, options_of(dialect)) {}

Expression Expression::literal(std::string_view text) {
  return Expression(std::string(text), text, PCRE2_UTF | PCRE2_LITERAL);
}

Expression::Expression(const std::string& translated, std::string_view shown, uint32_t options)
    : shown_(shortened(shown)) {
  int error = 0;
  size_t where = 0;
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), options, &error, &where,
                            context.get()));
  if (!code_) throw Unreadable{fmt::format("PCRE2 cannot read the expression {}: {}", shown_, message_of(error))};
  pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // without it matching is slower, and the same
}

Expression::Matches::Matches(const Expression& expression, std::string_view text)
    : expression_(expression), text_(text) {
  if (put_stand_ins(text, copy_)) text_ = copy_;
}

bool Expression::Matches::next(size_t& begin, size_t& end) {
  Scratch& here = scratch();
  while (at_ <= text_.size()) {
    const int found = pcre2_match(expression_.code_.get(), reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(),
                                  at_, PCRE2_NO_UTF_CHECK, here.data, here.context);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      throw UserError(
          "the tokenizer's expression {} cannot be matched from byte {} of a piece of {} bytes: {}; divide the "
          "text into shorter documents",
          expression_.shown_, at_, text_.size(), message_of(found));
    }
    const size_t* place = pcre2_get_ovector_pointer(here.data);
    begin = place[0];
    end = place[1];
    const bool empty = begin == end;
    // Behind an empty match the search goes on at the next character; one that ends where the last did is none.
    at_ = !empty ? end : end < text_.size() ? end + utf8_length(text_[end]) : text_.size() + 1;
    if (empty && begin == last_end_) continue;
    last_end_ = end;
    return true;
  }
  at_ = text_.size() + 1;
  return false;
}

}  // namespace sluice
