// A tokenizer's regular expression, and behind a zero byte a text to divide by it.
#include "base/utf8.h"
#include "data/splitting/expression.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  Parts parts(data, size);
  const std::string pattern = parts.next();
  std::string text = parts.next();
  text.resize(scan_utf8(text).valid);
  text += "The cat's 12 \xC3\xA9 e\xCC\x81 \xE2\x82\xAC\n\n  \xF0\x9F\x8E\x89 aaaaaaaa";
  if (scan_utf8(pattern).valid != pattern.size()) return 0;  // as every JSON text is
  for (const ExpressionDialect dialect : {ExpressionDialect::kRuby, ExpressionDialect::kRust}) {
    expect_user_errors([&] {
      try {
        const Expression expression(pattern, dialect);
        Expression::Matches matches(expression, text);
        size_t begin = 0, end = 0, last = 0, found = 0;
        while (matches.next(begin, end)) {
          check(begin >= last && end >= begin && end <= text.size(), "a match in disorder");
          check(++found <= text.size() + 1, "more matches than places");
          last = end;
        }
      } catch (const Unreadable& reason) {
        check(!reason.what.empty(), "no reason");
      }
    });
  }
  return 0;
}
