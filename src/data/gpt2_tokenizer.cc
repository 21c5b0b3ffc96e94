// GPT-2's tokenizer, from the files of its release (vocab.json, merges.txt) or a tokenizer.json that says the same.
//
// A text is divided into words (gpt2_split.h), a word into bytes, and byte-pair merges make tokens of them. The files
// write bytes as characters: the 188 printable ones of Latin-1 as themselves, the others as U+0100 and up, in order.
#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/error.h"
#include "base/files.h"
#include "base/json_text.h"
#include "base/utf8.h"
#include "data/byte_pair_merges.h"
#include "data/gpt2_split.h"
#include "data/tokenizer_files.h"
#include "data/word_cache.h"

namespace sluice {
namespace {

constexpr int64_t kMostTokens = 1 << 24;

// The byte that each character stands for; -1 for those that stand for none.
std::array<int, 324> make_byte_of_character() {
  std::array<int, 324> bytes;
  bytes.fill(-1);
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    bytes[size_t(printable ? byte : next++)] = byte;
  }
  return bytes;
}

// What the files say, ids not yet checked.
struct Gpt2Files {
  std::string path, key;                                // for messages
  std::vector<std::pair<std::string, int64_t>> tokens;  // as the file writes them
  std::vector<std::pair<std::string, int64_t>> special; // tokens that no text gives, as they are
  std::vector<std::pair<std::string, std::string>> merges;

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> text, Args&&... args) const {
    throw UserError("{}: {} cannot be used as a GPT-2 tokenizer: {}", key, path,
                    fmt::format(text, std::forward<Args>(args)...));
  }
};

class Gpt2Tokenizer final : public Tokenizer {
 public:
  explicit Gpt2Tokenizer(const Gpt2Files& files) {
    place_tokens(files);
    std::unordered_map<std::string_view, int32_t> ids;
    for (size_t id = 0; id < bytes_.size(); ++id) {
      if (!special_[id]) ids.emplace(bytes_[id], int32_t(id));
    }
    for (int byte = 0; byte < 256; ++byte) {
      const auto found = ids.find(std::string(1, char(byte)));
      if (found == ids.end()) files.refuse("it has no token for the byte 0x{:02X}", byte);
      byte_tokens_[size_t(byte)] = found->second;
    }
    add_merges(files, ids);
    identify(files.path, canonical());
  }

  const char* type() const override { return "gpt2"; }
  int64_t vocab_size() const override { return int64_t(bytes_.size()); }
  int32_t end_of_text() const override { return end_of_text_; }
  std::string_view token_bytes(int32_t token) const override { return bytes_[size_t(token)]; }

  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    WordCache& cache = word_cache(owner_);
    while (!text.empty()) {
      const size_t word = gpt2_word_length(text);
      const size_t length = word <= kMostWordBytes ? word : character_boundary(text, kMostWordBytes);
      cache.append(text.substr(0, length), tokens,
                   [this](std::string_view word, std::vector<int32_t>& ids) { encode_word(word, ids); });
      text.remove_prefix(length);
    }
  }

 private:
  void encode_word(std::string_view word, std::vector<int32_t>& tokens) const {
    std::vector<int32_t> symbols;
    for (const char byte : word) symbols.push_back(byte_tokens_[static_cast<unsigned char>(byte)]);
    merges_.encode(symbols, tokens);
  }

  void place_tokens(const Gpt2Files& files) {
    const int64_t count = int64_t(files.tokens.size() + files.special.size());
    if (count > kMostTokens) files.refuse("it has {} tokens; the most is {}", count, kMostTokens);
    bytes_.resize(size_t(count));
    special_.resize(size_t(count));
    std::vector<bool> taken(bytes_.size());
    const auto place = [&](const std::string& text, int64_t id, bool special) {
      if (id < 0 || id >= count) files.refuse("the token \"{}\" has the id {}, but there are {} tokens", text, id, count);
      if (taken[size_t(id)]) files.refuse("the id {} is taken twice, again by \"{}\"", id, text);
      taken[size_t(id)] = true;
      special_[size_t(id)] = special;
      bytes_[size_t(id)] = special ? text : bytes_of(text, files);
    };
    for (const auto& [text, id] : files.tokens) place(text, id, false);
    for (const auto& [text, id] : files.special) {
      place(text, id, true);
      if (text == kEndOfText) end_of_text_ = int32_t(id);
    }
  }

  static std::string bytes_of(std::string_view written, const Gpt2Files& files) {
    static const std::array<int, 324> kByteOf = make_byte_of_character();
    std::string bytes;
    for (std::string_view rest = written; !rest.empty();) {
      const char32_t character = take_character(rest);
      if (character >= kByteOf.size() || kByteOf[character] < 0) {
        files.refuse("\"{}\" has U+{:04X}, which stands for no byte", written, uint32_t(character));
      }
      bytes += char(kByteOf[character]);
    }
    if (bytes.empty()) files.refuse("a token is empty");
    return bytes;
  }

  void add_merges(const Gpt2Files& files, const std::unordered_map<std::string_view, int32_t>& ids) {
    for (const auto& merge : files.merges) {
      const std::string a = bytes_of(merge.first, files), b = bytes_of(merge.second, files);
      const auto find = [&](const std::string& bytes) {
        const auto found = ids.find(bytes);
        if (found == ids.end()) {
          files.refuse("the merge \"{} {}\" has a part or result that is no token", merge.first, merge.second);
        }
        return found->second;
      };
      const int32_t first = find(a), second = find(b), merged = find(a + b);
      if (!merges_.add(first, second, merged)) {
        files.refuse("the merge \"{} {}\" stands there twice", merge.first, merge.second);
      }
      merged_.insert(merged_.end(), {first, second, merged});
    }
  }

  // The same for both kinds of files.
  std::string canonical() const {
    std::string content;
    for (size_t id = 0; id < bytes_.size(); ++id) content += fmt::format("{} {}:", bytes_[id].size(), special_[id] ? 1 : 0) + bytes_[id];
    content.append(reinterpret_cast<const char*>(merged_.data()), merged_.size() * sizeof(int32_t));
    return content;
  }

  std::vector<std::string> bytes_;  // [vocabulary]
  std::vector<bool> special_;       // [vocabulary]
  std::array<int32_t, 256> byte_tokens_{};
  BytePairMerges merges_;
  std::vector<int32_t> merged_;     // left, right, merged of every merge, for the hash
  int32_t end_of_text_ = -1;
  uint64_t owner_ = next_cache_owner();
};

void read_vocabulary(const Json& json, Gpt2Files& files) {
  if (!json.is_object()) files.refuse("the vocabulary is no object of tokens and their ids");
  for (const auto& [text, id] : json.items()) {
    if (!id.is_number_integer()) files.refuse("the id of \"{}\" is {}", text, id.dump());
    auto& list = text == kEndOfText ? files.special : files.tokens;
    list.emplace_back(text, id.get<int64_t>());
  }
}

void add_merge(std::string_view line, Gpt2Files& files) {
  const size_t blank = line.find(' ');
  if (blank == line.npos || line.find(' ', blank + 1) != line.npos) {
    files.refuse("the merge \"{}\" is not two tokens with a blank between", line);
  }
  files.merges.emplace_back(line.substr(0, blank), line.substr(blank + 1));
}

void read_merges(std::string_view text, Gpt2Files& files) {
  if (scan_utf8(text).valid != text.size()) files.refuse("merges.txt is not valid UTF-8");
  if (text.starts_with("#version")) text.remove_prefix(std::min(text.find('\n'), text.size()));
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (!line.empty()) add_merge(line, files);
  }
}

// tokenizer.json can say much that GPT-2 does not; what would give other tokens is refused.
void check_pipeline(const Json& json, const Gpt2Files& files) {
  const auto refuse = [&](const char* what) {
    files.refuse("{} is not that of GPT-2 (byte-level, no normalizer, the byte-level pre-tokenizer with its own "
                 "expression and no blank put in front)", what);
  };
  if (json.contains("normalizer") && !json["normalizer"].is_null()) refuse("the normalizer");
  const Json pre = json.value("pre_tokenizer", Json());
  if (!pre.is_object() || pre.value("type", Json()) != "ByteLevel" || pre.value("add_prefix_space", Json()) != false ||
      pre.value("use_regex", Json(true)) != true) {
    refuse("the pre-tokenizer");
  }
  const Json& model = json["model"];
  if (model.value("type", Json("BPE")) != "BPE") refuse("the model");
  for (const char* name : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json value = model.value(name, Json());
    if (!value.is_null() && value != "") refuse(name);
  }
  for (const char* name : {"byte_fallback", "ignore_merges"}) {
    if (model.value(name, Json(false)) != false) refuse(name);
  }
}

void read_added_tokens(const Json& list, Gpt2Files& files) {
  if (!list.is_array()) files.refuse("\"added_tokens\" is no list");
  for (const Json& token : list) {
    const Json content = token.is_object() ? token.value("content", Json()) : Json();
    const Json id = token.is_object() ? token.value("id", Json()) : Json();
    if (!content.is_string() || !id.is_number_integer()) files.refuse("an added token has no content or no id");
    const auto text = content.get<std::string>();
    if (token.value("special", Json(false)) != true) files.refuse("\"{}\" is added to the vocabulary and not special", text);
    const auto is_it = [&](const auto& entry) { return entry.first == text; };
    std::erase_if(files.tokens, is_it);
    std::erase_if(files.special, is_it);
    files.special.emplace_back(text, id.get<int64_t>());
  }
}

}  // namespace

std::unique_ptr<Tokenizer> make_gpt2_tokenizer(const Json& json, const std::string& path, const std::string& key) {
  Gpt2Files files{path, key, {}, {}, {}};
  const Json& model = json.at("model");
  if (!model.is_object() || !model.contains("vocab") || !model.contains("merges") || !model["merges"].is_array()) {
    files.refuse("its \"model\" has no \"vocab\" and \"merges\"");
  }
  check_pipeline(json, files);
  read_vocabulary(model["vocab"], files);
  for (const Json& merge : model["merges"]) {
    if (merge.is_string()) {
      add_merge(merge.get_ref<const std::string&>(), files);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      files.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      files.refuse("a merge is {}", merge.dump().substr(0, 80));
    }
  }
  if (json.contains("added_tokens")) read_added_tokens(json["added_tokens"], files);
  return std::make_unique<Gpt2Tokenizer>(files);
}

std::unique_ptr<Tokenizer> make_gpt2_tokenizer(const std::string& vocabulary, const std::string& merges,
                                               const std::string& path, const std::string& key) {
  Gpt2Files files{path, key, {}, {}, {}};
  read_vocabulary(parse_json(vocabulary, path + "/vocab.json"), files);
  read_merges(merges, files);
  return std::make_unique<Gpt2Tokenizer>(files);
}

}  // namespace sluice
