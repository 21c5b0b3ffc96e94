// The sorted texts are their own index: those that go on like the text are a range that every
// further byte narrows, which needs no memory beyond the texts and a step for each byte of a token that is nearly
// there.
#include "data/splitting/added_tokens.h"

#include <algorithm>

#include "base/utf8.h"
#include "data/splitting/expression.h"
#include "data/splitting/gpt2_split.h"

namespace sluice {
namespace {

size_t first_byte(std::string_view text) { return static_cast<unsigned char>(text[0]); }

bool is_word_character(std::string_view character) {
  static const Expression word("\\w", ExpressionDialect::kRust);
  size_t begin = 0, end = 0;
  return Expression::Matches(word, character).next(begin, end);
}

std::string_view last_character(std::string_view text) {
  return text.substr(character_boundary(text, text.size() - 1));
}
std::string_view first_character(std::string_view text) { return text.substr(0, utf8_length(text[0])); }

bool is_blank(std::string_view character) { return class_of(take_character(character)) == CharacterClass::kBlank; }

}  // namespace

void AddedTokens::assign(std::vector<AddedToken> tokens) {
  tokens_ = std::move(tokens);
  // Normalized, two may have become one: the first counts.
  std::stable_sort(tokens_.begin(), tokens_.end(), [](const auto& a, const auto& b) { return a.text < b.text; });
  const auto same = [](const auto& a, const auto& b) { return a.text == b.text; };
  tokens_.erase(std::unique(tokens_.begin(), tokens_.end(), same), tokens_.end());
  of_first_byte_ = {};
  finds_any_ = false;
  for (uint32_t i = 0; i < tokens_.size(); ++i) {
    Range& range = of_first_byte_[first_byte(tokens_[i].text)];
    if (range.end == 0) range.begin = i;
    range.end = i + 1;
    finds_any_ |= !tokens_[i].special;
  }
}

const AddedToken* AddedTokens::longest_at(std::string_view text, size_t at) const {
  const Range range = of_first_byte_[static_cast<unsigned char>(text[at])];
  auto begin = tokens_.begin() + range.begin, end = tokens_.begin() + range.end;
  const AddedToken* longest = nullptr;
  for (size_t depth = 1; begin != end; ++depth) {
    if (begin->text.size() == depth) longest = &*begin++;  // the shortest comes first
    if (at + depth >= text.size()) break;
    const auto byte = [depth](const AddedToken& token) { return static_cast<unsigned char>(token.text[depth]); };
    const auto wanted = static_cast<unsigned char>(text[at + depth]);
    begin = std::partition_point(begin, end, [&](const AddedToken& token) { return byte(token) < wanted; });
    end = std::partition_point(begin, end, [&](const AddedToken& token) { return byte(token) == wanted; });
  }
  return longest;
}

void AddedTokens::divide(std::string_view text, const std::function<void(std::string_view)>& on_text,
                         const std::function<void(int32_t)>& on_token) const {
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = longest_at(text, at);
    if (!token) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->text.size();
    at = end;
    if (token->special) continue;
    if (token->single_word && ((begin > 0 && is_word_character(last_character(text.substr(0, begin)))) ||
                               (end < text.size() && is_word_character(first_character(text.substr(end)))))) {
      continue;
    }
    while (token->lstrip && begin > done && is_blank(last_character(text.substr(0, begin)))) {
      begin = character_boundary(text, begin - 1);
    }
    while (token->rstrip && end < text.size() && is_blank(text.substr(end))) end += utf8_length(text[end]);
    if (done < begin) on_text(text.substr(done, begin - done));
    on_token(token->id);
    done = end;
  }
  if (done < text.size()) on_text(text.substr(done));
}

bool AddedTokenLayers::assign(std::vector<AddedToken> tokens, const Normalizer& normalizer) {
  std::vector<AddedToken> raw, normalized;
  bool whole = true;
  for (AddedToken& token : tokens) {
    if (token.normalized) {
      std::string copy;
      token.text = std::string(normalizer(token.text, copy));
      whole = whole && !token.text.empty();
      if (token.text.empty()) continue;
    }
    (token.normalized ? normalized : raw).push_back(std::move(token));
  }
  raw_.assign(std::move(raw));
  normalized_.assign(std::move(normalized));
  return whole;
}

void AddedTokenLayers::divide(std::string_view text, const Normalizer& normalizer,
                              const std::function<void(std::string_view)>& on_text,
                              const std::function<void(int32_t)>& on_token) const {
  const auto divide_raw = [&](std::string_view part) {
    std::string copy;
    const std::string_view normalized = normalizer(part, copy);
    if (!normalized_.finds_any()) return on_text(normalized);
    normalized_.divide(normalized, on_text, on_token);
  };
  if (!raw_.finds_any()) return divide_raw(text);
  raw_.divide(text, divide_raw, on_token);
}

}  // namespace sluice
