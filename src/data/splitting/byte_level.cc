// The alphabet of bytes as characters, and the way back (byte_level.h).
#include "data/splitting/byte_level.h"

#include <array>

#include "base/utf8.h"

namespace sluice {
namespace {

struct Alphabet {
  std::array<int, 324> byte_of{};  // a character's; -1: none
  std::array<char32_t, 256> character_of{};

  Alphabet() {
    byte_of.fill(-1);
    char32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      const char32_t character = printable ? char32_t(byte) : next++;
      byte_of[character] = byte;
      character_of[size_t(byte)] = character;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet made;
  return made;
}

}  // namespace

std::optional<std::string> bytes_of_characters(std::string_view written, char32_t& stranger) {
  std::string bytes;
  while (!written.empty()) {
    const char32_t character = take_character(written);
    if (character >= alphabet().byte_of.size() || alphabet().byte_of[character] < 0) {
      stranger = character;
      return std::nullopt;
    }
    bytes += char(alphabet().byte_of[character]);
  }
  return bytes;
}

std::string characters_of_bytes(std::string_view bytes) {
  std::string written;
  for (const char byte : bytes) append_utf8(written, alphabet().character_of[static_cast<unsigned char>(byte)]);
  return written;
}

int byte_of_name(std::string_view name) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  if (name.size() != 6 || name.substr(0, 3) != "<0x" || name[5] != '>') return -1;
  return digit(name[3]) < 0 || digit(name[4]) < 0 ? -1 : digit(name[3]) * 16 + digit(name[4]);
}

}  // namespace sluice
