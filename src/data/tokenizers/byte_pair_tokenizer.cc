// Words to tokens by merges, with a cache in front, and tokens to bytes (byte_pair_tokenizer.h).
#include "data/tokenizers/byte_pair_tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"
#include "data/tokenizers/byte_pair_vocabulary.h"
#include "data/tokenizers/word_cache.h"

namespace sluice {
namespace {

class BytePairTokenizer final : public Tokenizer {
 public:
  // `described`: what hash() depends on beside the tokens and merges.
  BytePairTokenizer(BytePairFiles files, const std::string& described)
      : type_(files.type),
        library_files_(files.library_files),
        characters_(!files.byte_level && !files.raw),
        ignore_merges_(files.ignore_merges),
        fuse_unknown_(files.fuse_unknown),
        vocabulary_(files),
        pipeline_(std::move(files.pipeline)) {
    added_.assign(std::exchange(vocabulary_.added, {}), normalizer());
    identify(files.path, vocabulary_.canonical() + described);
  }

  const char* type() const override { return type_.c_str(); }
  int64_t vocab_size() const override { return int64_t(vocabulary_.bytes.size()); }
  int32_t end_of_text() const override { return vocabulary_.begins; }
  int32_t ends_text() const override { return vocabulary_.ends >= 0 ? vocabulary_.ends : vocabulary_.begins; }
  std::string_view token_bytes(int32_t token) const override { return vocabulary_.bytes[size_t(token)]; }
  bool adds_blank() const override { return pipeline_.puts_blank_before(); }
  bool has_library_files() const override { return library_files_; }
  int32_t unknown() const override { return vocabulary_.unknown; }
  std::optional<int32_t> mask_token() const override {
    return vocabulary_.mask < 0 ? std::nullopt : std::optional(vocabulary_.mask);
  }

  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    added_.divide(
        text, normalizer(), [&](std::string_view part) { encode_words(part, tokens); },
        [&](int32_t token) { tokens.push_back(token); });
  }

 private:
  AddedTokenLayers::Normalizer normalizer() const {
    return [this](std::string_view text, std::string& copy) { return pipeline_.normalized(text, copy); };
  }

  void encode_words(std::string_view text, std::vector<int32_t>& tokens) const {
    WordCache& cache = word_cache(owner_);
    const auto encode_new = [this](std::string_view word, std::vector<int32_t>& out) { encode_word(word, out); };
    pipeline_.divide(text, [&](std::string_view word) {
      while (!word.empty()) {
        const size_t length = word.size() <= kMostWordBytes ? word.size() : character_boundary(word, kMostWordBytes);
        cache.append(word.substr(0, length), tokens, encode_new);
        word.remove_prefix(length);
      }
    });
  }

  void encode_word(std::string_view word, std::vector<int32_t>& tokens) const {
    if (ignore_merges_) {
      const int32_t whole = vocabulary_.find(word);
      if (whole >= 0 && !vocabulary_.special[size_t(whole)]) return tokens.push_back(whole);
    }
    std::vector<int32_t> symbols;
    symbols.reserve(word.size());
    characters_ ? put_characters(word, symbols) : put_bytes(word, symbols);
    vocabulary_.merges.encode(symbols, tokens);
  }

  void put_bytes(std::string_view word, std::vector<int32_t>& symbols) const {
    bool waiting = false;  // unknown bytes, which become one token
    for (const char c : word) {
      const auto byte = static_cast<unsigned char>(c);
      const int32_t token = vocabulary_.byte_tokens[byte];
      if (token < 0) {
        put_unknown(fmt::format("the byte 0x{:02X}", byte), waiting, symbols);
        continue;
      }
      end_unknown(waiting, symbols);
      symbols.push_back(token);
    }
    end_unknown(waiting, symbols);
  }

  void put_characters(std::string_view word, std::vector<int32_t>& symbols) const {
    bool waiting = false;
    while (!word.empty()) {
      const std::string_view before = word;
      const char32_t character = take_character(word);
      const auto token = vocabulary_.character_tokens.find(character);
      if (token != vocabulary_.character_tokens.end()) {
        end_unknown(waiting, symbols);
        symbols.push_back(token->second);
      } else if (!put_fallback(before.substr(0, before.size() - word.size()), symbols)) {
        put_unknown(fmt::format("the character U+{:04X}", uint32_t(character)), waiting, symbols);
      }
    }
    end_unknown(waiting, symbols);
  }

  bool put_fallback(std::string_view character, std::vector<int32_t>& symbols) const {
    for (const char byte : character) {
      if (vocabulary_.byte_tokens[static_cast<unsigned char>(byte)] < 0) return false;
    }
    for (const char byte : character) symbols.push_back(vocabulary_.byte_tokens[static_cast<unsigned char>(byte)]);
    return true;
  }

  void put_unknown(const std::string& what, bool& waiting, std::vector<int32_t>& symbols) const {
    if (vocabulary_.unknown < 0) throw UserError("the text has {}, which {} does not have", what, name());
    if (waiting && !fuse_unknown_) symbols.push_back(vocabulary_.unknown);
    waiting = true;
  }
  void end_unknown(bool& waiting, std::vector<int32_t>& symbols) const {
    if (waiting) symbols.push_back(vocabulary_.unknown);
    waiting = false;
  }

  std::string type_;
  bool library_files_, characters_, ignore_merges_, fuse_unknown_;
  BytePairVocabulary vocabulary_;
  TextPipeline pipeline_;
  AddedTokenLayers added_;
  uint64_t owner_ = next_cache_owner();
};

}  // namespace

void VocabularyFiles::refuse_text(const std::string& what) const {
  throw UserError("{}: {} cannot be used as a tokenizer: {}", key, path, what);
}

namespace {

// Whether nothing differs from GPT-2's release, so that such files are one tokenizer wherever they come from.
bool is_gpt2(const BytePairFiles& files) {
  const auto plain = [](const auto& added) { return added.first.special; };
  return files.library_files && files.byte_level && !files.ignore_merges && files.unknown.empty() &&
         files.pipeline.description() == TextPipeline::kGpt2 &&
         std::all_of(files.added.begin(), files.added.end(), plain);
}

// What stands in a vocabulary under this name is no text, though nothing says that it is special.
void add_end_of_text(BytePairFiles& files) {
  const auto is_it = [](const std::string& name) { return name == kEndOfText; };
  const auto own =
      std::find_if(files.tokens.begin(), files.tokens.end(), [&](const auto& token) { return is_it(token.first); });
  const bool added =
      std::any_of(files.added.begin(), files.added.end(), [&](const auto& one) { return is_it(one.first.text); });
  if (own == files.tokens.end() || added) return;
  AddedToken end{.text = own->first};
  end.special = true;
  files.added.insert(files.added.begin(), {end, own->second});
  files.begins = files.ends = kEndOfText;
}

std::string description_of(const BytePairFiles& files) {
  std::string text =
      fmt::format("\n{} {} {} {} {} {} \"{}\" {}\n", files.raw, files.byte_level, files.byte_fallback,
                  files.ignore_merges, files.fuse_unknown, files.ranked, files.unknown, files.pipeline.description());
  for (const auto& [token, id] : files.added) {
    if (token.special) continue;
    text += fmt::format("{} {} {} {} {}\n", id, token.lstrip, token.rstrip, token.single_word, token.normalized);
  }
  return text;
}

}  // namespace

std::unique_ptr<Tokenizer> make_byte_pair_tokenizer(BytePairFiles files) {
  add_end_of_text(files);
  for (const std::string_view name : kMaskNames) {
    const auto is_it = [&](const auto& one) { return one.first.text == name; };
    if (std::any_of(files.added.begin(), files.added.end(), is_it) && files.mask.empty()) files.mask = name;
  }
  std::string described;
  if (is_gpt2(files)) {
    files.type = "gpt2";
    files.begins = files.ends = kEndOfText;
  } else {
    described = description_of(files);
  }
  return std::make_unique<BytePairTokenizer>(std::move(files), described);
}

}  // namespace sluice
