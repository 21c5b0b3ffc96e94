// How GPT-2's files, and those of most tokenizers since, write bytes as characters: the 188 printable ones of Latin-1
// as themselves, the others as U+0100 and up, in order.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice {

// The bytes that `written` stands for; nullopt where one of its characters, put into `stranger`, stands for none.
std::optional<std::string> bytes_of_characters(std::string_view written, char32_t& stranger);
std::string characters_of_bytes(std::string_view bytes);

// The byte of a token "<0xE2>", or -1.
int byte_of_name(std::string_view name);

}  // namespace sluice
