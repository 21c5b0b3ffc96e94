// Normalizer, pre-tokenizer, model and decoder in the library's words, for each kind of tokenizer (tokenizer_json.h).
#include "interchange/tokenizers/tokenizer_json.h"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"

namespace sluice {

Json added_token(int64_t id, const std::string& text, bool special) {
  return {{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

namespace {

using PieceType = SentencePieceModel::PieceType;

constexpr const char* kBlankMark = "\xE2\x96\x81";  // U+2581, a blank inside sentencepiece

// The object of names and numbers; of a name that comes twice the last number counts. (Json's [] looks at all names,
// one after the other.)
class Vocabulary {
 public:
  void add(const std::string& name, int64_t id) {
    auto& members = object_.get_ref<Json::object_t&>();
    const auto [place, is_new] = places_.try_emplace(name, members.size());
    if (is_new) members.emplace_back(name, id);
    else (members.begin() + std::ptrdiff_t(place->second))->second = id;
  }
  Json take() { return std::move(object_); }

 private:
  Json object_ = Json::object();
  std::unordered_map<std::string, size_t> places_;
};

Json whole_tokenizer(Json added, Json normalizer, Json decoder, Json model) {
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", std::move(normalizer)},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"decoder", std::move(decoder)},
          {"model", std::move(model)}};
}

Json byte_pair_model(Json vocabulary, Json merges, const Json& unknown, bool byte_fallback) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", unknown},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", true},
          {"byte_fallback", byte_fallback},
          {"ignore_merges", false},
          {"vocab", std::move(vocabulary)},
          {"merges", std::move(merges)}};
}

Json replace(const std::string& from, const std::string& to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

// ---- sentencepiece --------------------------------------------------------------------------------------------------

// Merges in the order in which sentencepiece applies them: by the score of what they give. It has no list of merges;
// any two pieces that make a third merge, those of lower numbers first.
Json merges_of(const SentencePieceModel& model, const std::map<std::string, int64_t>& ids) {
  struct Merge {
    float score;
    int64_t left, right;
  };
  std::vector<Merge> merges;
  for (const auto& piece : model.pieces) {
    if (piece.type != PieceType::kNormal) continue;
    for (size_t cut = 1; cut < piece.text.size(); ++cut) {
      const auto left = ids.find(piece.text.substr(0, cut)), right = ids.find(piece.text.substr(cut));
      if (left != ids.end() && right != ids.end()) merges.push_back({piece.score, left->second, right->second});
    }
  }
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tuple(-a.score, a.left, a.right) < std::tuple(-b.score, b.left, b.right);
  });
  Json out = Json::array();
  for (const Merge& merge : merges)
    out.push_back({model.pieces[size_t(merge.left)].text, model.pieces[size_t(merge.right)].text});
  return out;
}

// The library's unigram model finds every name of its vocabulary in a text, those of bytes and special tokens too. With
// this score a name is worse than its characters one by one; and as each character without a piece costs the same in
// every division of a text, that this becomes dearer as well changes nothing.
double score_of_names(const SentencePieceModel& model) {
  double least = 0;
  size_t longest = 0;
  for (const auto& piece : model.pieces) {
    least = std::min(least, double(piece.score));
    if (piece.type != PieceType::kNormal) longest = std::max(longest, piece.text.size());
  }
  return least * double(longest + 1) - 100;
}

}  // namespace

Json sentencepiece_json(const SentencePieceModel& model) {
  Json added = Json::array(), pieces = Json::array();
  Vocabulary vocabulary;
  std::map<std::string, int64_t> mergeable;
  Json unknown_text, unknown_id;
  const double score_of_name = score_of_names(model);
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    const bool normal = piece.type == PieceType::kNormal;
    pieces.push_back({piece.text, normal ? double(piece.score) : score_of_name});
    vocabulary.add(piece.text, int64_t(id));
    if (normal) mergeable[piece.text] = int64_t(id);
    // The unknown token is not added: the library would take "<unk>" in a text for it, whatever the text means.
    if (piece.type == PieceType::kUnknown) unknown_text = piece.text, unknown_id = id;
    if (piece.type == PieceType::kControl) added.push_back(added_token(int64_t(id), piece.text, true));
  }
  Json normalizers = Json::array(),
       decoders = {replace(kBlankMark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (model.adds_dummy_prefix) {
    normalizers.push_back({{"type", "Prepend"}, {"prepend", kBlankMark}});
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  normalizers.push_back(replace(" ", kBlankMark));
  Json inner = model.model_type == 2
                   ? byte_pair_model(vocabulary.take(), merges_of(model, mergeable), unknown_text, model.spells_bytes)
                   : Json{{"type", "Unigram"},
                          {"unk_id", unknown_id},
                          {"vocab", std::move(pieces)},
                          {"byte_fallback", model.spells_bytes}};
  return whole_tokenizer(std::move(added), {{"type", "Sequence"}, {"normalizers", std::move(normalizers)}},
                         {{"type", "Sequence"}, {"decoders", std::move(decoders)}}, std::move(inner));
}

std::optional<std::string> unspellable_name(const SentencePieceModel& model) {
  if (model.model_type != 1) return std::nullopt;
  std::set<std::string, std::less<>> single;
  for (const auto& piece : model.pieces)
    if (piece.type == PieceType::kNormal) single.insert(piece.text);
  for (const auto& piece : model.pieces) {
    if (piece.type == PieceType::kNormal) continue;
    for (std::string_view rest = piece.text; !rest.empty();) {
      const std::string_view before = rest;
      take_character(rest);
      if (!single.contains(before.substr(0, before.size() - rest.size()))) return piece.text;
    }
  }
  return std::nullopt;
}

// ---- bytes and characters -------------------------------------------------------------------------------------------

// A byte is what the library falls back to: no character has a token of its own.
Json bytes_tokenizer_json(const Tokenizer& tokenizer) {
  Json vocabulary = Json::object();
  for (int byte = 0; byte < 256; ++byte) vocabulary[fmt::format("<0x{:02X}>", byte)] = byte;
  vocabulary[std::string(kEndOfText)] = tokenizer.end_of_text();
  const Json decoders = {{{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  return whole_tokenizer({added_token(tokenizer.end_of_text(), std::string(kEndOfText), true)}, nullptr,
                         {{"type", "Sequence"}, {"decoders", decoders}},
                         byte_pair_model(std::move(vocabulary), Json::array(), nullptr, true));
}

// Characters that never merge; those without a token are left out of the text.
Json characters_tokenizer_json(const Tokenizer& tokenizer) {
  Vocabulary vocabulary;
  for (int32_t token = 0; token < int32_t(tokenizer.vocab_size()); ++token)
    vocabulary.add(std::string(tokenizer.token_bytes(token)), token);
  return whole_tokenizer({added_token(tokenizer.end_of_text(), std::string(kEndOfText), true)}, nullptr,
                         {{"type", "Fuse"}}, byte_pair_model(vocabulary.take(), Json::array(), nullptr, false));
}

// ---- GPT-2 ----------------------------------------------------------------------------------------------------------

Json gpt2_tokenizer_json(const Json& vocabulary, const std::string& merges, Json added) {
  Json list = Json::array();
  std::istringstream lines(merges.starts_with("\xEF\xBB\xBF") ? merges.substr(3) : merges);
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    const size_t blank = line.find(' ');
    if (blank == line.npos || (list.empty() && line.starts_with("#version"))) continue;
    list.push_back({line.substr(0, blank), line.substr(blank + 1)});
  }
  if (const auto end = vocabulary.find(kEndOfText); end != vocabulary.end())
    added.insert(added.begin(), added_token(end->get<int64_t>(), std::string(kEndOfText), true));
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  Json model = byte_pair_model(vocabulary, std::move(list), nullptr, false);
  model["fuse_unk"] = false;
  Json out = whole_tokenizer(std::move(added), nullptr, byte_level, std::move(model));
  out["pre_tokenizer"] = byte_level;
  return out;
}

// ---- WordPiece ------------------------------------------------------------------------------------------------------

Json wordpiece_json(const WordPieceFiles& files) {
  Vocabulary vocabulary;
  std::set<std::string, std::less<>> special = {files.unknown, files.begins, files.ends, files.mask, "[PAD]"};
  Json added = Json::array();
  for (const auto& [name, id] : files.tokens) vocabulary.add(name, id);
  std::map<int64_t, Json> by_id;  // as the library wants them
  for (const auto& [name, id] : files.tokens)
    if (special.contains(name)) by_id[id] = added_token(id, name, true);
  for (const auto& [token, id] : files.added) {
    by_id[id] = added_token(id, token.text, token.special || special.contains(token.text));
    by_id[id].update({{"single_word", token.single_word},
                      {"lstrip", token.lstrip},
                      {"rstrip", token.rstrip},
                      {"normalized", token.normalized}});
  }
  for (auto& [id, token] : by_id) added.push_back(std::move(token));
  Json out = whole_tokenizer(std::move(added),
                             {{"type", "BertNormalizer"},
                              {"clean_text", files.text.clean},
                              {"handle_chinese_chars", files.text.space_chinese},
                              {"strip_accents", files.text.strip_accents},
                              {"lowercase", files.text.lowercase}},
                             {{"type", "WordPiece"}, {"prefix", files.prefix}, {"cleanup", files.joins_marks}},
                             {{"type", "WordPiece"},
                              {"unk_token", files.unknown},
                              {"continuing_subword_prefix", files.prefix},
                              {"max_input_chars_per_word", files.most_characters},
                              {"vocab", vocabulary.take()}});
  out["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  return out;
}

// ---- tokens around a text --------------------------------------------------------------------------------------------

std::string name_of_token(const Json& tokenizer, int64_t id) {
  for (const Json& token : tokenizer.value("added_tokens", Json::array()))
    if (token.value("id", int64_t(-1)) == id) return token.value("content", "");
  const Json& vocabulary = tokenizer.at("model").at("vocab");
  if (vocabulary.is_array()) return id < int64_t(vocabulary.size()) ? vocabulary[size_t(id)][0].get<std::string>() : "";
  for (const auto& [name, number] : vocabulary.items())
    if (number == id) return name;
  return "";
}

namespace {

// Tokens of texts' template, and what it must know of them.
struct Template {
  Json single = Json::array(), pair = Json::array(), special = Json::object();

  void put_text(const char* which, int type) {
    const Json text = {{"Sequence", {{"id", which}, {"type_id", type}}}};
    pair.push_back(text);
    if (type == 0) single.push_back(text);
  }
  void put_token(const std::string& name, int64_t id, int type) {
    const Json token = {{"SpecialToken", {{"id", name}, {"type_id", type}}}};
    pair.push_back(token);
    if (type == 0) single.push_back(token);
    special[name] = {{"id", name}, {"ids", {id}}, {"tokens", {name}}};
  }
  Json post_processor() const {
    return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
  }
};

}  // namespace

bool put_before_texts(Json& tokenizer_json, int64_t id) {
  const std::string name = name_of_token(tokenizer_json, id);
  if (name.empty()) return false;
  Template around;
  around.put_token(name, id, 0);
  around.put_text("A", 0);
  around.put_text("B", 1);
  tokenizer_json["post_processor"] = around.post_processor();
  return true;
}

void put_around_texts(Json& tokenizer_json, const Tokenizer& tokenizer) {
  const int32_t first = tokenizer.end_of_text(), last = tokenizer.closes_text();
  if (first < 0 && last < 0) return;
  Template around;
  if (first >= 0) around.put_token(name_of_token(tokenizer_json, first), first, 0);
  for (const int type : {0, 1}) {
    around.put_text(type == 0 ? "A" : "B", type);
    if (last >= 0) around.put_token(name_of_token(tokenizer_json, last), last, type);
  }
  tokenizer_json["post_processor"] = around.post_processor();
}

void describe_wordpiece(const Json& tokenizer_json, const Tokenizer& tokenizer, Json& config) {
  const Json& model = tokenizer_json.at("model");
  const Json text = tokenizer_json.value("normalizer", Json());
  const auto put_name = [&](const char* key, int64_t id) {
    config.erase(key);
    if (id >= 0) config[key] = name_of_token(tokenizer_json, id);
  };
  put_name("unk_token", tokenizer.unknown());
  put_name("cls_token", tokenizer.end_of_text());
  put_name("sep_token", tokenizer.closes_text());
  put_name("mask_token", tokenizer.mask_token().value_or(-1));
  put_name("pad_token", tokenizer.ends_text());
  for (const char* not_berts : {"bos_token", "eos_token"}) config.erase(not_berts);
  if (model.at("vocab").contains("[PAD]")) config["pad_token"] = "[PAD]";
  const Json decoder = tokenizer_json.value("decoder", Json());
  const bool plain = text.is_object() && text.value("clean_text", true) && tokenizer.end_of_text() >= 0 &&
                     tokenizer.closes_text() >= 0 && model.value("continuing_subword_prefix", "##") == "##" &&
                     model.value("max_input_chars_per_word", int64_t(100)) == 100 &&
                     (decoder.is_null() || decoder.value("cleanup", true));
  if (!plain) return;
  config["tokenizer_class"] = "BertTokenizer";
  config["do_lower_case"] = text.value("lowercase", true);
  config["strip_accents"] = text.value("strip_accents", Json());
  config["tokenize_chinese_chars"] = text.value("handle_chinese_chars", true);
}

}  // namespace sluice
