// Regular expressions as tokenizers spell them, in PCRE2's words.
#pragma once

#include <string>
#include <string_view>

#include "data/splitting/expression.h"

namespace sluice {

// For PCRE2_UTF, PCRE2_UCP and lines that end in LF; Ruby's for PCRE2_MULTILINE, too. Throws Unreadable for what PCRE2
// has no word for, or what no published tokenizer uses and would have to be looked into first.
std::string translate_expression(std::string_view pattern, ExpressionDialect dialect);

}  // namespace sluice
