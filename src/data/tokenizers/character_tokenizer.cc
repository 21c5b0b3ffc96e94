// A token for each character of a list, in the order of code points; the end of a text comes last. The file:
//   {"type": "characters", "characters": [10, 32, 97]}
#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"
#include "data/tokenizers/tokenizer_files.h"

namespace sluice {
namespace {

class CharacterTokenizer final : public Tokenizer {
 public:
  CharacterTokenizer(std::u32string characters, const std::string& source) : characters_(std::move(characters)) {
    starts_.push_back(0);
    for (const char32_t character : characters_) {
      append_utf8(bytes_, character);
      starts_.push_back(bytes_.size());
    }
    identify(source, bytes_);
  }

  const char* type() const override { return "characters"; }
  int64_t vocab_size() const override { return int64_t(characters_.size()) + 1; }
  int32_t end_of_text() const override { return int32_t(characters_.size()); }

  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    while (!text.empty()) {
      const char32_t character = take_character(text);
      const auto found = std::lower_bound(characters_.begin(), characters_.end(), character);
      if (found == characters_.end() || *found != character) {
        throw UserError("the text has the character U+{:04X}, which {} does not have", uint32_t(character), name());
      }
      tokens.push_back(int32_t(found - characters_.begin()));
    }
  }

  std::string_view token_bytes(int32_t token) const override {
    if (token == end_of_text()) return kEndOfText;
    const size_t start = starts_[size_t(token)];
    return std::string_view(bytes_).substr(start, starts_[size_t(token) + 1] - start);
  }

 private:
  std::u32string characters_;
  std::string bytes_;           // of all characters in a row
  std::vector<size_t> starts_;  // [characters + 1] in bytes_
};

}  // namespace

std::unique_ptr<Tokenizer> make_character_tokenizer(const Json& json, const std::string& path, const std::string& key) {
  const Json& list = json.at("characters");
  if (!list.is_array() || list.empty())
    throw UserError("{}: \"characters\" in {} is no list of code points", key, path);
  std::u32string characters;
  for (const Json& entry : list) {
    if (!entry.is_number_unsigned() || entry.get<uint64_t>() > 0x10FFFF ||
        (entry.get<uint64_t>() >= 0xD800 && entry.get<uint64_t>() < 0xE000)) {
      throw UserError("{}: \"characters\" in {} has {}, which is no code point", key, path, entry.dump());
    }
    const char32_t character = entry.get<uint32_t>();
    if (!characters.empty() && character <= characters.back()) {
      throw UserError("{}: \"characters\" in {} must rise, but {} follows {}", key, path, uint32_t(character),
                      uint32_t(characters.back()));
    }
    characters += character;
  }
  return std::make_unique<CharacterTokenizer>(std::move(characters), path);
}

std::string characters_json(std::u32string characters) {
  std::sort(characters.begin(), characters.end());
  characters.erase(std::unique(characters.begin(), characters.end()), characters.end());
  Json list = Json::array();
  for (const char32_t character : characters) list.push_back(uint32_t(character));
  return Json{{"type", "characters"}, {"characters", std::move(list)}}.dump() + "\n";
}

}  // namespace sluice
