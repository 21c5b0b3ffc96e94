// BERT's tokenizer from a vocab.txt with its tokenizer_config.json, or from a tokenizer.json of the library
// `tokenizers`. What is not read is refused by name: other tokens than the library's must never come out.
#include <algorithm>

#include "base/config/json_text.h"
#include "base/utf8.h"
#include "data/splitting/gpt2_split.h"
#include "data/tokenizers/wordpiece_tokenizer.h"

namespace sluice {
namespace {

std::string quoted(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 40); }

bool has_token(const WordPieceFiles& files, std::string_view name) {
  const auto is_it = [&](const auto& token) { return token.first == name; };
  const auto is_added = [&](const auto& token) { return token.first.text == name; };
  return std::any_of(files.tokens.begin(), files.tokens.end(), is_it) ||
         std::any_of(files.added.begin(), files.added.end(), is_added);
}

// A special token that nothing names goes by the name of BERT's, if there is one.
void choose_specials(WordPieceFiles& files) {
  const auto choose = [&](std::string& chosen, std::string_view name) {
    if (chosen.empty() && has_token(files, name)) chosen = name;
  };
  choose(files.begins, "[CLS]");
  choose(files.ends, "[SEP]");
  for (const std::string_view name : kMaskNames) choose(files.mask, name);
}

// Null is what `lowercase` says.
bool strips_accents(const Json& object, const WordPieceFiles& files) {
  return flag_of(object, "strip_accents", files.text.lowercase, files);
}

// ---- vocab.txt ------------------------------------------------------------------------------------------------------

// Without the blanks at its end, which the library takes away as well.
std::string_view without_last_blanks(std::string_view line) {
  while (!line.empty()) {
    const size_t last = character_boundary(line, line.size() - 1);
    std::string_view character = line.substr(last);
    if (class_of(take_character(character)) != CharacterClass::kBlank) break;
    line = line.substr(0, last);
  }
  return line;
}

void read_lines(std::string_view text, WordPieceFiles& files) {
  if (text.empty()) files.refuse("the file is empty");
  if (const size_t valid = scan_utf8(text).valid; valid != text.size())
    files.refuse("line {} is not valid UTF-8",
                 1 + std::count(text.begin(), text.begin() + std::ptrdiff_t(valid), '\n'));
  text = without_byte_order_mark(text);
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const std::string_view token = without_last_blanks(line);
    if (token.empty()) files.refuse("line {} is empty; a line is a token", files.tokens.size() + 1);
    files.tokens.emplace_back(token, int64_t(files.tokens.size()));
  }
}

// Those whose vocab.txt is WordPiece's behind BERT's division into words.
bool is_bert_class(std::string name) {
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  for (const char* known : {"Bert", "DistilBert", "Electra", "MobileBert", "ConvBert", "SqueezeBert", "PreTrained"}) {
    if (name == std::string(known) + "Tokenizer") return true;
  }
  return false;
}

// A text, or an object with one as its "content".
void read_name(const Json& config, const char* key, std::string& name, const WordPieceFiles& files) {
  const Json value = config.value(key, Json());
  if (value.is_null()) return;
  const Json text = value.is_object() ? value.value("content", Json()) : value;
  if (!text.is_string()) files.refuse("\"{}\" of its tokenizer_config.json is {}", key, quoted(value));
  name = text.get<std::string>();
}

// Tokens with their ids as names.
void read_added_by_id(const Json& listed, WordPieceFiles& files) {
  if (listed.is_null()) return;
  if (!listed.is_object()) files.refuse("\"added_tokens_decoder\" of its tokenizer_config.json is no object");
  for (const auto& [name, token] : listed.items()) {
    const bool digits = !name.empty() && name.size() < 10 && name.find_first_not_of("0123456789") == name.npos;
    if (!digits) files.refuse("\"{}\" in \"added_tokens_decoder\" is no id", name.substr(0, 40));
    files.added.emplace_back(read_added_token(token, files), std::stoll(name));
  }
  std::sort(files.added.begin(), files.added.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
}

void read_config(const std::string& text, WordPieceFiles& files) {
  const Json config = parse_json(text, files.path + "'s tokenizer_config.json");
  if (!config.is_object()) files.refuse("its tokenizer_config.json is no object");
  const Json kind = config.value("tokenizer_class", Json());
  if (kind.is_string() && !is_bert_class(kind.get<std::string>()))
    files.refuse("its tokenizer_config.json says {}, which is none of BERT's; save it as a tokenizer.json",
                 quoted(kind));
  if (!flag_of(config, "do_basic_tokenize", true, files))
    files.refuse("its tokenizer_config.json has do_basic_tokenize = false, which is not read");
  files.text.lowercase = flag_of(config, "do_lower_case", true, files);
  files.text.strip_accents = strips_accents(config, files);
  files.text.space_chinese = flag_of(config, "tokenize_chinese_chars", true, files);
  read_name(config, "unk_token", files.unknown, files);
  read_name(config, "cls_token", files.begins, files);
  read_name(config, "sep_token", files.ends, files);
  read_name(config, "mask_token", files.mask, files);
  read_added_by_id(config.value("added_tokens_decoder", Json()), files);
}

}  // namespace

WordPieceFiles read_wordpiece_vocabulary(const std::string& vocabulary, const std::string& config,
                                         const std::string& path, const std::string& key) {
  WordPieceFiles files{{.path = path, .key = key}};
  files.unknown = "[UNK]";
  read_lines(vocabulary, files);
  if (!config.empty()) read_config(config, files);
  choose_specials(files);
  return files;
}

std::unique_ptr<Tokenizer> make_wordpiece_vocabulary(const std::string& vocabulary, const std::string& config,
                                                     const std::string& path, const std::string& key) {
  return make_wordpiece_tokenizer(read_wordpiece_vocabulary(vocabulary, config, path, key));
}

// ---- tokenizer.json -------------------------------------------------------------------------------------------------

namespace {

Json type_of(const Json& part) { return part.is_object() ? part.value("type", Json()) : Json(); }

void read_model(const Json& model, WordPieceFiles& files) {
  const Json unknown = model.value("unk_token", Json("[UNK]")),
             prefix = model.value("continuing_subword_prefix", Json("##"));
  const Json longest = model.value("max_input_chars_per_word", Json(100));
  if (!unknown.is_string()) files.refuse("its unk_token is {}", quoted(unknown));
  if (!prefix.is_string()) files.refuse("its continuing_subword_prefix is {}", quoted(prefix));
  if (!longest.is_number_integer() || longest < 1 || longest > INT32_MAX)
    files.refuse("its max_input_chars_per_word is {}", quoted(longest));
  files.unknown = unknown.get<std::string>();
  files.prefix = prefix.get<std::string>();
  files.most_characters = longest.get<int64_t>();
  read_vocabulary(model.value("vocab", Json()), files);
}

void read_normalizer(const Json& part, WordPieceFiles& files) {
  if (part.is_null()) {
    files.text = {.clean = false, .space_chinese = false, .strip_accents = false, .lowercase = false};
    return;
  }
  if (type_of(part) != "BertNormalizer")
    files.refuse("its normalizer {} is not read with WordPiece; BertNormalizer is, or none", quoted(type_of(part)));
  files.text.clean = flag_of(part, "clean_text", true, files);
  files.text.space_chinese = flag_of(part, "handle_chinese_chars", true, files);
  files.text.lowercase = flag_of(part, "lowercase", true, files);
  files.text.strip_accents = strips_accents(part, files);
}

void read_decoder(const Json& part, WordPieceFiles& files) {
  if (part.is_null()) return;
  if (type_of(part) != "WordPiece")
    files.refuse("its decoder {} is not read with WordPiece; the decoder WordPiece is, or none", quoted(type_of(part)));
  if (const Json prefix = part.value("prefix", Json("##")); prefix != files.prefix)
    files.refuse("its decoder has the prefix {}, its model \"{}\"", quoted(prefix), files.prefix.substr(0, 40));
  files.joins_marks = flag_of(part, "cleanup", true, files);
}

// What the post-processor puts behind a text; it has been read by first_special().
std::string last_special(const Json& part) {
  const Json type = type_of(part);
  const auto text_of = [](const Json& name) { return name.is_string() ? name.get<std::string>() : std::string(); };
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    const Json last = part.value("sep", Json());
    return last.is_array() && !last.empty() ? text_of(last[0]) : "";
  }
  const Json single = type == "TemplateProcessing" ? part.value("single", Json()) : Json();
  const Json last = single.is_array() && single.size() > 1 ? single.back() : Json();
  const Json special = last.is_object() ? last.value("SpecialToken", Json()) : Json();
  return special.is_object() ? text_of(special.value("id", Json())) : "";
}

}  // namespace

bool is_wordpiece_json(const Json& json) {
  const Json& model = json.at("model");
  if (!model.is_object()) return false;
  const Json type = model.value("type", Json());  // which files of old do not have
  return type == "WordPiece" || (type.is_null() && model.contains("max_input_chars_per_word"));
}

std::unique_ptr<Tokenizer> make_wordpiece_json(const Json& json, const std::string& path, const std::string& key) {
  WordPieceFiles files{{.path = path, .key = key}};
  files.library_files = true;
  read_model(json.at("model"), files);
  read_added_tokens(json.value("added_tokens", Json()), files);
  read_normalizer(json.value("normalizer", Json()), files);
  if (const Json division = json.value("pre_tokenizer", Json()); type_of(division) != "BertPreTokenizer")
    files.refuse("its pre-tokenizer {} is not read with WordPiece; BertPreTokenizer is", quoted(type_of(division)));
  read_decoder(json.value("decoder", Json()), files);
  const Json around = json.value("post_processor", Json());
  files.begins = first_special(around, files);
  files.ends = last_special(around);
  choose_specials(files);
  return make_wordpiece_tokenizer(std::move(files));
}

}  // namespace sluice
