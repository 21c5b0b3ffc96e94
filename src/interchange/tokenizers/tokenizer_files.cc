// Which files a tokenizer becomes or brings along, and what of it the library cannot have (tokenizer_files.h).
#include "interchange/tokenizers/tokenizer_files.h"

#include <array>
#include <optional>
#include <set>
#include <vector>

#include "base/config/config.h"
#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/files.h"
#include "base/limits.h"
#include "interchange/tokenizers/tokenizer_json.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using PieceType = SentencePieceModel::PieceType;

// What AutoTokenizer and load_tokenizer look for.
constexpr std::array kFiles = {"tokenizer.json",
                               "tokenizer_config.json",
                               "special_tokens_map.json",
                               "tokenizer.model",
                               "vocab.json",
                               "merges.txt",
                               "added_tokens.json",
                               "vocab.txt",
                               "tekken.json"};

void write_json(const fs::path& path, const Json& json) {
  write_file_atomic(path, json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

bool is_wordpiece(const Tokenizer& tokenizer) { return std::string_view(tokenizer.type()) == "wordpiece"; }

void add_note(std::string& note, const std::string& sentence) { note += (note.empty() ? "" : "; ") + sentence; }

constexpr const char* kAddedMask = "[MASK]";
constexpr const char* kAddedMaskKey = "sluice_added_mask_token";  // of tokenizer_config.json

// Whether the library would give the next added token the id behind the vocabulary, and no token has its name.
bool takes_added_mask(const Json& tokenizer_json, int64_t vocab_size) {
  const Json &vocabulary = tokenizer_json.at("model").at("vocab"), added = tokenizer_json.value("added_tokens", Json());
  std::set<int64_t> ids;
  if (vocabulary.is_array())
    for (size_t id = 0; id < vocabulary.size(); ++id) ids.insert(int64_t(id));
  else
    for (const auto& [name, id] : vocabulary.items()) ids.insert(name == kAddedMask ? -1 : id.get<int64_t>());
  if (added.is_array())
    for (const Json& token : added)
      ids.insert(token.value("content", "") == kAddedMask ? -1 : token.value("id", int64_t(-1)));
  return !ids.contains(-1) && int64_t(ids.size()) == vocab_size;
}

// What a masked model's mask token is called; `added` where it lies right behind the tokenizer's and is put there.
// Empty: it has no name.
std::string name_mask_token(Json& tokenizer_json, const Tokenizer& tokenizer, int64_t mask, bool& added,
                            std::string& note) {
  if (mask < 0) return "";
  if (std::string own = name_of_token(tokenizer_json, mask); !own.empty()) return own;
  added = mask == tokenizer.vocab_size() && takes_added_mask(tokenizer_json, mask);
  if (!added) {
    add_note(note, fmt::format("data.masking.token {} is no token of {}: put it into texts yourself", mask,
                               tokenizer.name()));
    return "";
  }
  if (!tokenizer_json["added_tokens"].is_array()) tokenizer_json["added_tokens"] = Json::array();
  tokenizer_json["added_tokens"].push_back(added_token(mask, kAddedMask, true));
  return kAddedMask;
}

// The tokenizer as it was before an export put a mask token behind it: shards know their tokenizer by its content.
void without_added_mask(Json& tokenizer_json, Json& config) {
  Json& tokens = tokenizer_json["added_tokens"];
  if (tokens.is_array() && !tokens.empty() && tokens.back().value("content", "") == kAddedMask)
    tokens.erase(tokens.size() - 1);
  config.erase(kAddedMaskKey);
  config.erase("mask_token");
}

// `given` is the tokenizer_config.json that came with the tokenizer, or null: what does not change tokens is kept.
// `json` is the tokenizer.json; `first`: a token of the run's stands before texts, and not the tokenizer's own.
void write_tokenizer_config(const fs::path& folder, const Tokenizer& tokenizer, int64_t context, Json given,
                            const Json& json, bool first, const std::string& mask, bool added_mask) {
  Json config = given.is_object() ? std::move(given) : Json::object();
  for (const char* key : {"add_prefix_space", "add_bos_token", "add_eos_token", "auto_map", "errors"})
    config.erase(key);
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  config["model_max_length"] = context;
  config["clean_up_tokenization_spaces"] = false;
  // The name of a special token in a text is text, as Sluice has it.
  config["split_special_tokens"] = true;
  config["model_input_names"] = {"input_ids", "attention_mask"};
  const auto name = [&](int32_t token) { return std::string(tokenizer.token_bytes(token)); };
  if (const int32_t start = tokenizer.end_of_text(); start >= 0) config["bos_token"] = name(start);
  if (const int32_t end = tokenizer.ends_text(); end >= 0) config["eos_token"] = config["pad_token"] = name(end);
  if (is_wordpiece(tokenizer)) {
    describe_wordpiece(json, tokenizer, config);
    if (first) config["tokenizer_class"] = "PreTrainedTokenizerFast";  // BertTokenizer has its own
  }
  if (!mask.empty()) config["mask_token"] = mask;
  if (added_mask) config[kAddedMaskKey] = true;
  write_json(folder / "tokenizer_config.json", config);
}

Json wordpiece_files(const std::string& path_or_name, const fs::path& folder, Json& config) {
  fs::path path = path_or_name;
  if (fs::is_directory(path)) path /= "vocab.txt";
  const fs::path beside = path.parent_path() / "tokenizer_config.json";
  const std::string vocabulary = read_file(path), given = fs::exists(beside) ? read_file(beside) : "";
  if (!given.empty()) config = parse_json(given, beside.string());
  write_file_atomic(folder / "vocab.txt", vocabulary);
  return wordpiece_json(read_wordpiece_vocabulary(vocabulary, given, path.string(), "--tokenizer"));
}

// Whether transformers can be told how the model treats text; else why not, in words.
std::optional<std::string> fault_of(const SentencePieceModel& model) {
  if (model.changes_text || model.blank_is_suffix || !model.escapes_blanks)
    return fmt::format("changes text before it is encoded ({})", model.normalization_rule);
  for (const auto& piece : model.pieces) {
    if (piece.type == PieceType::kUserDefined)
      return fmt::format("has symbols of its user (\"{}\"), which transformers would divide texts at", piece.text);
    if (piece.type == PieceType::kUnused && model.model_type == 2)
      return fmt::format("has pieces that are not used (\"{}\")", piece.text);
  }
  return std::nullopt;
}

// Null where the library cannot have the tokenizer.
Json sentencepiece_files(const std::string& path_or_name, const Tokenizer& tokenizer, const fs::path& folder,
                         std::string& note) {
  const fs::path path =
      fs::is_directory(path_or_name) ? fs::path(path_or_name) / "tokenizer.model" : fs::path(path_or_name);
  const std::string bytes = read_file(path);
  const SentencePieceModel model = parse_sentencepiece_model(bytes, path_or_name, "--tokenizer");
  write_file_atomic(folder / "tokenizer.model", bytes);
  if (const auto fault = fault_of(model)) {
    add_note(note,
             fmt::format("{} {}: only its tokenizer.model is in the folder, and what transformers makes of it must be "
                         "checked",
                         tokenizer.name(), *fault));
    return nullptr;
  }
  if (const auto name = unspellable_name(model)) {
    add_note(note, fmt::format(
                       "transformers takes \"{}\" in a text for the token, because not all its characters have tokens",
                       *name));
  }
  return sentencepiece_json(model);
}

Json read_tokenizer_json(const fs::path& path) { return read_json_file(path, kMostTokenizerBytes, "a tokenizer"); }

// The tokens of added_tokens.json; those that a text gives are not special.
Json added_tokens(const fs::path& path, const Tokenizer& tokenizer) {
  Json out = Json::array();
  if (!fs::exists(path)) return out;
  const Json listed = read_tokenizer_json(path);  // items() refers to it
  for (const auto& [name, id] : listed.items()) {
    if (!id.is_number_integer())
      throw UserError("{}: the id of \"{}\" is {}", path.string(), excerpt(name, kMostQuoted), shown(id));
    std::vector<int32_t> tokens;
    tokenizer.encode(name, tokens);
    out.push_back(added_token(id.get<int64_t>(), name, tokens != std::vector<int32_t>{id.get<int32_t>()}));
  }
  return out;
}

// A tokenizer.json that the tokenizer was read from, or that says what GPT-2's two files say.
Json library_files(const std::string& path_or_name, const Tokenizer& tokenizer, const fs::path& folder, Json& config) {
  const fs::path path(path_or_name);
  if (!fs::is_directory(path)) return read_tokenizer_json(path);
  if (fs::exists(path / "tokenizer_config.json")) config = read_json_file(path / "tokenizer_config.json");
  const bool pair = fs::exists(path / "vocab.json") && fs::exists(path / "merges.txt");
  for (const char* name : {"vocab.json", "merges.txt"})
    if (pair) write_file_atomic(folder / name, read_file(path / name));
  if (fs::exists(path / "tokenizer.json")) return read_tokenizer_json(path / "tokenizer.json");
  return gpt2_tokenizer_json(read_tokenizer_json(path / "vocab.json"), read_file(path / "merges.txt"),
                             added_tokens(path / "added_tokens.json", tokenizer));
}

// Ranks of tiktoken and tekken.json, which the library cannot read.
void copy_as_it_is(const std::string& path_or_name, const Tokenizer& tokenizer, const fs::path& folder,
                   std::string& note) {
  fs::path path = path_or_name;
  if (fs::is_directory(path)) path /= fs::exists(path / "tokenizer.model") ? "tokenizer.model" : "tekken.json";
  write_file_atomic(folder / path.filename(), read_file(path));
  add_note(
      note,
      fmt::format("there is no tokenizer.json for {}: its own file is in the folder, and AutoTokenizer cannot load it",
                  tokenizer.name()));
}

}  // namespace

bool copy_tokenizer_files(const fs::path& folder, const fs::path& to) {
  bool any = false;
  for (const char* name : kFiles) {
    if (!fs::exists(folder / name)) continue;
    if (!any) create_folders(to);
    any = true;
    write_file_atomic(to / name, read_file(folder / name));
  }
  if (!any || !fs::exists(to / "tokenizer.json") || !fs::exists(to / "tokenizer_config.json")) return any;
  if (Json config = read_json_file(to / "tokenizer_config.json");
      config.is_object() && config.contains(kAddedMaskKey)) {
    Json json = read_tokenizer_json(to / "tokenizer.json");
    without_added_mask(json, config);
    write_json(to / "tokenizer.json", json);
    write_json(to / "tokenizer_config.json", config);
  }
  return any;
}

std::string write_tokenizer_files(const std::string& path_or_name, const Tokenizer& tokenizer,
                                  const TokenizerFileOptions& options, const fs::path& folder) {
  const std::string type = tokenizer.type();
  std::string note;
  Json json, given_config;
  if (tokenizer.has_library_files()) {
    json = library_files(path_or_name, tokenizer, folder, given_config);
  } else if (type == "sentencepiece") {
    json = sentencepiece_files(path_or_name, tokenizer, folder, note);
  } else if (is_wordpiece(tokenizer)) {
    json = wordpiece_files(path_or_name, folder, given_config);
  } else if (type == "bytes") {
    json = bytes_tokenizer_json(tokenizer);
  } else if (type == "characters") {
    json = characters_tokenizer_json(tokenizer);
    add_note(note, "transformers leaves characters without a token out of a text, where Sluice refuses the text");
  } else {
    copy_as_it_is(path_or_name, tokenizer, folder, note);
  }
  if (json.is_null()) {
    if (options.mask_token >= 0)
      add_note(note, fmt::format("masked texts have token {} (data.masking.token): put it there yourself",
                                 options.mask_token));
    return note;
  }
  bool added_mask = false;
  const std::string mask = name_mask_token(json, tokenizer, options.mask_token, added_mask, note);
  if (is_wordpiece(tokenizer)) put_around_texts(json, tokenizer);
  const bool first =
      options.first_token >= 0 && !(is_wordpiece(tokenizer) && options.first_token == tokenizer.end_of_text());
  if (first && !put_before_texts(json, options.first_token)) {
    add_note(note, fmt::format("data.first_token {} is no token of {}: put it before each text yourself",
                               options.first_token, tokenizer.name()));
  }
  write_json(folder / "tokenizer.json", json);
  write_tokenizer_config(folder, tokenizer, options.context, std::move(given_config), json, first, mask, added_mask);
  return note;
}

}  // namespace sluice
