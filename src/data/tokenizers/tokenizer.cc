// What all tokenizers share, the one of bytes, and which file is which kind.
#include "data/tokenizers/tokenizer.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>

#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/input_file.h"
#include "base/limits.h"
#include "data/tokenizers/tokenizer_files.h"

namespace sluice {

namespace fs = std::filesystem;

void Tokenizer::identify(const std::string& source, std::string_view content) {
  hash_ = XXH64(content.data(), content.size(), XXH64(type(), std::char_traits<char>::length(type()), 0));
  name_ = source.empty() ? fmt::format("{} ({} tokens)", type(), vocab_size())
                         : fmt::format("{} {} ({} tokens)", type(), fs::path(source).filename().string(), vocab_size());
}

std::string Tokenizer::decode(std::span<const int32_t> tokens, bool continued) const {
  std::string text;
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocab_size()) {
      throw UserError("token {} is not in the vocabulary of {}: the largest is {}", token, name(), vocab_size() - 1);
    }
    text += token_bytes(token);
  }
  if (!continued && adds_blank() && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() {
    for (int byte = 0; byte < 256; ++byte) bytes_ += char(byte);
    identify("", "256 bytes and the end of the text");
  }
  const char* type() const override { return "bytes"; }
  int64_t vocab_size() const override { return 257; }
  int32_t end_of_text() const override { return 256; }
  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
  }
  std::string_view token_bytes(int32_t token) const override {
    return token == 256 ? kEndOfText : std::string_view(bytes_).substr(size_t(token), 1);
  }

 private:
  std::string bytes_;
};

std::unique_ptr<Tokenizer> load_json(const std::string& path, const std::string& key) {
  const Json json = read_json_file(path, kMostTokenizerBytes, "a tokenizer");
  if (json.is_object() && json.contains("characters")) return make_character_tokenizer(json, path, key);
  if (json.is_object() && json.contains("model")) return make_json_tokenizer(json, path, key);
  if (is_tekken(json)) return make_tekken_tokenizer(json, path, key);
  throw UserError("{}: {} is no tokenizer: it has neither \"characters\" nor \"model\"", key, path);
}

std::string read_tokenizer_file(const fs::path& path) {
  return read_regular_file(path, kMostTokenizerBytes, "a tokenizer");
}

// A vocab.txt, or a file of ranks under such a name.
std::unique_ptr<Tokenizer> load_vocabulary(const fs::path& path, const std::string& key) {
  const fs::path config = path.parent_path() / "tokenizer_config.json";
  const std::string content = read_tokenizer_file(path);
  if (is_rank_file(content)) return make_rank_tokenizer(content, path.string(), key);
  return make_wordpiece_vocabulary(content, fs::exists(config) ? read_tokenizer_file(config) : "", path.string(), key);
}

// A .model file, whose name both sentencepiece's and LLaMA 3's ranks go by, or a file of ranks.
std::unique_ptr<Tokenizer> load_model(const std::string& path, const std::string& key) {
  const std::string content = read_tokenizer_file(path);
  return is_rank_file(content) ? make_rank_tokenizer(content, path, key) : make_sentencepiece(content, path, key);
}

std::unique_ptr<Tokenizer> load_folder(const std::string& path, const std::string& key) {
  const fs::path folder(path), model = folder / "tokenizer.model", json = folder / "tokenizer.json";
  if (fs::exists(model)) return load_model(model.string(), key);
  if (fs::exists(json))
    return load_json(json.string(), key);  // it says more than the two below, which may lie beside it
  if (fs::exists(folder / "vocab.json") && fs::exists(folder / "merges.txt")) {
    const auto optional = [&](const char* name) {
      return fs::exists(folder / name) ? read_tokenizer_file(folder / name) : "";
    };
    return make_gpt2_tokenizer({read_tokenizer_file(folder / "vocab.json"), read_tokenizer_file(folder / "merges.txt"),
                                optional("added_tokens.json"), optional("special_tokens_map.json")},
                               path, key);
  }
  if (fs::exists(folder / "vocab.txt")) return load_vocabulary(folder / "vocab.txt", key);
  if (fs::exists(folder / "tekken.json")) return load_json((folder / "tekken.json").string(), key);
  throw UserError(
      "{}: the folder {} has no tokenizer.model, tokenizer.json, vocab.json with merges.txt, vocab.txt, or tekken.json",
      key, path);
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path_or_name, const std::string& key) {
  if (path_or_name == "bytes") return std::make_unique<ByteTokenizer>();
  if (fs::is_directory(path_or_name)) return load_folder(path_or_name, key);
  if (!fs::exists(path_or_name)) {
    throw UserError(
        "{}: there is no tokenizer \"{}\" (in {}); it is \"bytes\", a .model, .json, .tiktoken or vocab.txt "
        "file, or a folder with them",
        key, path_or_name, fs::absolute(path_or_name).lexically_normal().parent_path().string());
  }
  if (fs::path(path_or_name).extension() == ".json") return load_json(path_or_name, key);
  if (fs::path(path_or_name).extension() == ".txt") return load_vocabulary(path_or_name, key);
  return load_model(path_or_name, key);
}

}  // namespace sluice
