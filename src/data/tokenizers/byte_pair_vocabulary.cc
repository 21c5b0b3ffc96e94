// The checks of a vocabulary and its merges, and their tables (byte_pair_vocabulary.h).
#include "data/tokenizers/byte_pair_vocabulary.h"

#include <algorithm>
#include <unordered_set>

#include "base/error.h"
#include "base/utf8.h"
#include "data/splitting/byte_level.h"

namespace sluice {
namespace {

constexpr int64_t kMostTokens = 1 << 24;

// Names in messages, which may be as long as a file.
std::string shown(std::string_view name) {
  return name.size() <= 80 ? std::string(name) : std::string(name.substr(0, character_boundary(name, 80))) + "...";
}

}  // namespace

BytePairVocabulary::BytePairVocabulary(const BytePairFiles& files) {
  place(files);
  place_added(files);
  add_symbols(files);
  files.ranked ? add_ranked_merges(files) : add_merges(files);
  if (!files.unknown.empty()) {
    unknown = id_of_name(files, files.unknown);
    if (unknown < 0) files.refuse("its unk_token \"{}\" is no token", shown(files.unknown));
  }
  begins = id_of_name(files, files.begins);
  ends = id_of_name(files, files.ends);
  mask = id_of_name(files, files.mask);
}

std::string BytePairVocabulary::bytes_of(const BytePairFiles& files, std::string_view written) const {
  if (files.raw) return std::string(written);
  if (!files.byte_level) {
    const int byte = files.byte_fallback ? byte_of_name(written) : -1;
    return byte < 0 ? std::string(written) : std::string(1, char(byte));
  }
  char32_t stranger = 0;
  const auto bytes_text = bytes_of_characters(written, stranger);
  if (!bytes_text) files.refuse("\"{}\" has U+{:04X}, which stands for no byte", shown(written), uint32_t(stranger));
  return *bytes_text;
}

int32_t BytePairVocabulary::id_of_name(const BytePairFiles& files, const std::string& name) const {
  if (name.empty()) return -1;
  const auto found = names_.find(name);
  return found != names_.end() ? found->second : files.raw ? find(name) : -1;
}

void BytePairVocabulary::put(const BytePairFiles& files, const std::string& name, int64_t id, std::string text,
                             bool is_special) {
  if (id < 0 || id >= int64_t(bytes.size())) {
    files.refuse("the token \"{}\" has the id {}, but there are {} tokens", shown(name), id, bytes.size());
  }
  if (taken_[size_t(id)]) files.refuse("the id {} is taken twice, again by \"{}\"", id, shown(name));
  taken_[size_t(id)] = true;
  bytes[size_t(id)] = std::move(text);
  special[size_t(id)] = is_special;
  names_.emplace(name, int32_t(id));
}

// The model's own. Those that are added as well keep their text: it is found in texts as it is.
void BytePairVocabulary::place(const BytePairFiles& files) {
  const int64_t count = int64_t(files.tokens.size() + files.added.size());
  if (count == 0) files.refuse("it has no tokens");
  if (count > kMostTokens) files.refuse("it has {} tokens; the most is {}", count, kMostTokens);
  int64_t largest = 0;
  for (const auto& [name, id] : files.tokens) largest = std::max(largest, id);
  for (const auto& [token, id] : files.added) largest = std::max(largest, id);
  // Gaps take memory: a pruned vocabulary has some, a damaged one any number.
  const int64_t size = largest < std::min(kMostTokens, 8 * count + 65536) ? largest + 1 : count;
  bytes.resize(size_t(size));
  special.resize(size_t(size));
  taken_.resize(size_t(size));
  std::unordered_set<std::string_view> also_added;
  for (const auto& [token, id] : files.added) also_added.insert(token.text);
  for (const auto& [name, id] : files.tokens) {
    if (name.empty()) files.refuse("a token is empty");
    if (also_added.contains(name)) {
      char32_t stranger = 0;
      const bool written = files.byte_level && !files.raw;
      const auto text = written ? bytes_of_characters(name, stranger) : bytes_of(files, name);
      put(files, name, id, name, false);
      if (text) ids.emplace(*text, int32_t(id));
      continue;
    }
    std::string text = bytes_of(files, name);
    const bool spelled_byte = !files.raw && !files.byte_level && files.byte_fallback && byte_of_name(name) >= 0;
    if (!spelled_byte) ids.emplace(text, int32_t(id));
    put(files, name, id, std::move(text), false);
  }
}

// The library numbers what is added behind the model's tokens, whatever the file says.
void BytePairVocabulary::place_added(const BytePairFiles& files) {
  const int64_t model = int64_t(files.tokens.size());
  int64_t last = -1;
  std::unordered_set<int64_t> seen;
  for (const auto& [token, id] : files.added) {
    AddedToken placed = token;
    if (token.text.empty()) files.refuse("an added token is empty");
    const auto own = names_.find(token.text);
    if (own != names_.end()) {
      if (own->second != id) {
        files.refuse("the added token \"{}\" has the id {}, but {} in the vocabulary", shown(token.text), id,
                     own->second);
      }
      if (seen.contains(id)) {
        files.refuse("the id {} is taken twice, again by \"{}\"", id, shown(token.text));
      }
      special[size_t(id)] = token.special;
    } else {
      const int64_t next = std::max(last + 1, model);
      if (files.library_files && id != next) {
        files.refuse("the added token \"{}\" has the id {}, but as the library tokenizers numbers them it is {}",
                     shown(token.text), id, next);
      }
      put(files, token.text, id, token.text, token.special);
    }
    last = std::max(last, id);
    seen.insert(id);
    placed.id = int32_t(id);
    added.push_back(std::move(placed));
  }
}

void BytePairVocabulary::add_symbols(const BytePairFiles& files) {
  byte_tokens.fill(-1);
  if (files.byte_level || files.raw) {
    for (int byte = 0; byte < 256; ++byte) {
      byte_tokens[size_t(byte)] = find(std::string(1, char(byte)));
      if (byte_tokens[size_t(byte)] < 0 && files.byte_fallback) {
        files.refuse("it has byte_fallback with the pre-tokenizer ByteLevel, and no token for the byte 0x{:02X}", byte);
      }
    }
    return;
  }
  for (const auto& [text, id] : ids) {
    std::string_view rest = text;
    const char32_t character = take_character(rest);
    if (rest.empty()) character_tokens.emplace(character, id);
  }
  if (!files.byte_fallback) return;
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = names_.find(fmt::format("<0x{:02X}>", byte));
    if (found != names_.end()) byte_tokens[size_t(byte)] = found->second;
  }
}

void BytePairVocabulary::add_merges(const BytePairFiles& files) {
  merges.reserve(files.merges.size());
  for (const auto& merge : files.merges) {
    const std::string a = bytes_of(files, merge.first), b = bytes_of(files, merge.second);
    const auto find_part = [&](const std::string& part) {
      const int32_t id = find(part);
      if (id < 0) {
        files.refuse("the merge \"{} {}\" has a part or result that is no token", shown(merge.first),
                     shown(merge.second));
      }
      return id;
    };
    const int32_t first = find_part(a), second = find_part(b), both = find_part(a + b);
    if (!merges.add(first, second, both, int32_t(merged.size() / 3))) {
      files.refuse("the merge \"{} {}\" stands there twice", shown(merge.first), shown(merge.second));
    }
    merged.insert(merged.end(), {first, second, both});
  }
}

void BytePairVocabulary::add_ranked_merges(const BytePairFiles& files) {
  constexpr size_t kLongest = 4096;  // bytes: every place of a token may divide it
  for (const auto& [text, id] : files.tokens) {
    if (text.size() > kLongest) files.refuse("the token {} has {} bytes; the most is {}", id, text.size(), kLongest);
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const std::string_view all = text;
      const int32_t left = find(all.substr(0, cut));
      const int32_t right = left < 0 ? -1 : find(all.substr(cut));
      if (right >= 0) merges.add(left, right, int32_t(id), int32_t(id));
    }
  }
}

int32_t BytePairVocabulary::find(std::string_view text) const {
  const auto found = ids.find(std::string(text));
  return found == ids.end() ? -1 : found->second;
}

std::string BytePairVocabulary::canonical() const {
  std::string content;
  for (size_t id = 0; id < bytes.size(); ++id) {
    content += fmt::format("{} {}:", bytes[id].size(), special[id] ? 1 : 0);
    content += bytes[id];
  }
  content.append(reinterpret_cast<const char*>(merged.data()), merged.size() * sizeof(int32_t));
  return content;
}

}  // namespace sluice
