// Tokens that are added to a vocabulary and found in a text before anything else happens to it, as the library
// `tokenizers` finds them.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

struct AddedToken {
  std::string text;
  int32_t id = 0;
  bool special = false;  // its name in a text is text, and still hides other added tokens that overlap it
  bool lstrip = false, rstrip = false;  // takes the blanks before or behind it along
  bool single_word = false;             // only where no letter, mark or digit touches it
  bool normalized = false;              // is looked for when the text has been normalized
};

class AddedTokens {
 public:
  // Texts are not empty.
  void assign(std::vector<AddedToken> tokens);
  bool finds_any() const { return finds_any_; }

  // Calls token(id) for each that is found and text(part) for what lies between, from left to right. Of several that
  // begin at one place the longest counts.
  void divide(std::string_view text, const std::function<void(std::string_view)>& on_text,
              const std::function<void(int32_t)>& on_token) const;

 private:
  const AddedToken* longest_at(std::string_view text, size_t at) const;

  struct Range {
    uint32_t begin = 0, end = 0;
  };
  std::vector<AddedToken> tokens_;        // sorted by text
  std::array<Range, 256> of_first_byte_;  // of `tokens_`
  bool finds_any_ = false;
};

// Those that are found in a text as it is, and those (`normalized`) that are found in what a normalizer makes of it.
class AddedTokenLayers {
 public:
  // The normalized text, `copy` if it changes.
  using Normalizer = std::function<std::string_view(std::string_view text, std::string& copy)>;

  // False where a normalizer leaves nothing of a token's text.
  bool assign(std::vector<AddedToken> tokens, const Normalizer& normalizer);
  // As AddedTokens::divide; parts are normalized.
  void divide(std::string_view text, const Normalizer& normalizer, const std::function<void(std::string_view)>& on_text,
              const std::function<void(int32_t)>& on_token) const;

 private:
  AddedTokens raw_, normalized_;
};

}  // namespace sluice
