// GPT-2's division of a text into words, before byte-pair encoding looks at each. The regular expression of the
// release,
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// as a scanner.
#pragma once

#include <cstddef>
#include <string_view>

namespace sluice {

enum class CharacterClass { kOther, kLetter, kNumber, kBlank };
CharacterClass class_of(char32_t character);

// How many bytes the first word of `text` has; `text` is valid UTF-8 and not empty.
size_t gpt2_word_length(std::string_view text);

}  // namespace sluice
