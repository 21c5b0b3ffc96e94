// GPT-2's tokenizer from the two files of its release, vocab.json and merges.txt; with the added_tokens.json that the
// transformers library puts beside them.
#include <algorithm>
#include <unordered_set>

#include "base/config/json_text.h"
#include "base/error.h"
#include "base/utf8.h"
#include "data/tokenizers/byte_pair_tokenizer.h"
#include "data/tokenizers/tokenizer_files.h"

namespace sluice {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

void read_merges(std::string_view text, BytePairFiles& files) {
  if (scan_utf8(text).valid != text.size()) files.refuse("merges.txt is not valid UTF-8");
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  if (text.starts_with("#version")) text.remove_prefix(std::min(text.find('\n'), text.size()));
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (!line.empty()) read_merge(line, files);
  }
}

// The special tokens that special_tokens_map.json names: texts, lists of them, or objects with a "content".
std::unordered_set<std::string> special_names(const Gpt2Folder& folder, const std::string& path) {
  std::unordered_set<std::string> names = {std::string(kEndOfText)};
  if (folder.special.empty()) return names;
  const Json map = parse_json(folder.special, path + "/special_tokens_map.json");
  if (!map.is_object()) return names;
  for (const auto& [role, value] : map.items()) {
    for (const Json& one : value.is_array() ? value : Json::array({value})) {
      const Json name = one.is_object() ? one.value("content", Json()) : one;
      if (name.is_string()) names.insert(name.get<std::string>());
    }
  }
  return names;
}

// Those that are not special are found in texts.
void read_added(const Gpt2Folder& folder, BytePairFiles& files) {
  if (folder.added.empty()) return;
  VocabularyFiles listed{.path = files.path, .key = files.key};
  read_vocabulary(parse_json(folder.added, files.path + "/added_tokens.json"), listed);
  std::sort(listed.tokens.begin(), listed.tokens.end(),
            [](const auto& a, const auto& b) { return a.second < b.second; });
  const auto special = special_names(folder, files.path);
  for (const auto& [name, id] : listed.tokens) {
    AddedToken token{.text = name};
    token.special = special.contains(name);
    files.added.emplace_back(std::move(token), id);
  }
}

}  // namespace

std::unique_ptr<Tokenizer> make_gpt2_tokenizer(const Gpt2Folder& folder, const std::string& path,
                                               const std::string& key) {
  BytePairFiles files{{.path = path, .key = key}};
  files.pipeline.add_gpt2_split();
  read_vocabulary(parse_json(folder.vocabulary, path + "/vocab.json"), files);
  read_merges(folder.merges, files);
  read_added(folder, files);
  return make_byte_pair_tokenizer(std::move(files));
}

}  // namespace sluice
