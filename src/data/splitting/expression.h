// Regular expressions that divide a text into words, in PCRE2 with its just-in-time compiler.
//
// Tokenizers bring expressions of two dialects that differ from PCRE2's: that of Oniguruma with Ruby's syntax (library
// `tokenizers`) and that of Rust's regex and fancy-regex (`tiktoken`). They are translated (expression_syntax.h); what
// would match otherwise is refused. Characters newer than PCRE2's tables count as what Unicode 16 says they are, which
// both libraries go by.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct pcre2_real_code_8;

namespace sluice {

enum class ExpressionDialect { kRuby, kRust };

// What a reader of expressions or tokenizer files cannot take; the caller knows the file and the config key.
struct Unreadable {
  std::string what;
};

class Expression {
 public:
  // Throws Unreadable.
  Expression(std::string_view pattern, ExpressionDialect dialect);
  static Expression literal(std::string_view text);
  const std::string& shown() const { return shown_; }  // its beginning, for messages

  // The matches in `text`, which is valid UTF-8, from left to right; they do not overlap.
  class Matches {
   public:
    Matches(const Expression& expression, std::string_view text);
    // False where there is no more. UserError where PCRE2's limits of time or memory are met.
    bool next(size_t& begin, size_t& end);

   private:
    const Expression& expression_;
    std::string copy_;  // with stand-ins for characters that PCRE2 does not know
    std::string_view text_;
    size_t at_ = 0;
    size_t last_end_ = size_t(-1);
  };

 private:
  Expression(const std::string& translated, std::string_view shown, uint32_t options);

  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::unique_ptr<pcre2_real_code_8, Free> code_;
  std::string shown_;  // for messages
};

}  // namespace sluice
