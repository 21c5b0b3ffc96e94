// See tokenizer_files.h.
#include "train/interchange/tokenizer_files.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>
#include <vector>

#include "base/config.h"
#include "base/error.h"
#include "base/files.h"
#include "data/sentencepiece_model.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using PieceType = SentencePieceModel::PieceType;

constexpr const char* kBlankMark = "\xE2\x96\x81";  // U+2581, a blank inside sentencepiece
// What AutoTokenizer and load_tokenizer look for.
constexpr std::array kFiles = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "vocab.json",
    "merges.txt"};

Json added_token(int64_t id, const std::string& text, bool special) {
  return {{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

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

Json sentencepiece_json(const SentencePieceModel& model) {
  Json added = Json::array(), pieces = Json::array(), vocabulary = Json::object();
  std::map<std::string, int64_t> mergeable;
  Json unknown_text, unknown_id;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    pieces.push_back({piece.text, piece.score});
    vocabulary[piece.text] = id;
    if (piece.type == PieceType::kNormal) mergeable[piece.text] = int64_t(id);
    if (piece.type == PieceType::kUnknown) unknown_text = piece.text, unknown_id = id;
    if (piece.type == PieceType::kUnknown || piece.type == PieceType::kControl)
      added.push_back(added_token(int64_t(id), piece.text, true));
    if (piece.type == PieceType::kUserDefined) added.push_back(added_token(int64_t(id), piece.text, false));
  }
  Json normalizers = Json::array(),
       decoders = {replace(kBlankMark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (model.adds_dummy_prefix) {
    normalizers.push_back({{"type", "Prepend"}, {"prepend", kBlankMark}});
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  normalizers.push_back(replace(" ", kBlankMark));
  Json inner =
      model.model_type == 2
          ? byte_pair_model(std::move(vocabulary), merges_of(model, mergeable), unknown_text, true)
          : Json{{"type", "Unigram"}, {"unk_id", unknown_id}, {"vocab", std::move(pieces)}, {"byte_fallback", true}};
  return whole_tokenizer(std::move(added), {{"type", "Sequence"}, {"normalizers", std::move(normalizers)}},
                         {{"type", "Sequence"}, {"decoders", std::move(decoders)}}, std::move(inner));
}

// ---- bytes and characters -------------------------------------------------------------------------------------------

// A byte is what the library falls back to: no character has a token of its own.
Json bytes_json(const Tokenizer& tokenizer) {
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
  Json vocabulary = Json::object();
  for (int32_t token = 0; token < int32_t(tokenizer.vocab_size()); ++token)
    vocabulary[std::string(tokenizer.token_bytes(token))] = token;
  return whole_tokenizer({added_token(tokenizer.end_of_text(), std::string(kEndOfText), true)}, nullptr,
                         {{"type", "Fuse"}}, byte_pair_model(std::move(vocabulary), Json::array(), nullptr, false));
}

// ---- files ----------------------------------------------------------------------------------------------------------

void write_json(const fs::path& path, const Json& json) {
  write_file_atomic(path, json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void write_tokenizer_config(const fs::path& folder, const Tokenizer& tokenizer, int64_t context) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"model_max_length", context},
                 {"clean_up_tokenization_spaces", false}};
  if (const int32_t start = tokenizer.end_of_text(); start >= 0) config["bos_token"] = std::string(tokenizer.token_bytes(start));
  if (const int32_t end = tokenizer.ends_text(); end >= 0) config["eos_token"] = std::string(tokenizer.token_bytes(end));
  write_json(folder / "tokenizer_config.json", config);
}

fs::path model_path(const std::string& path) {
  return fs::is_directory(path) ? fs::path(path) / "tokenizer.model" : fs::path(path);
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
  return any;
}

std::string write_tokenizer_files(const std::string& path_or_name, const Tokenizer& tokenizer, int64_t context,
                                  const fs::path& folder) {
  const std::string type = tokenizer.type();
  if (type == "gpt2") {
    const fs::path path(path_or_name);
    if (fs::is_directory(path))
      copy_tokenizer_files(path, folder);
    else
      write_file_atomic(folder / "tokenizer.json", read_file(path));
    if (!fs::exists(folder / "tokenizer_config.json")) write_tokenizer_config(folder, tokenizer, context);
    return "";
  }
  std::string note;
  if (type == "sentencepiece") {
    const std::string bytes = read_file(model_path(path_or_name));
    const SentencePieceModel model = parse_sentencepiece_model(bytes, path_or_name, "--tokenizer");
    write_file_atomic(folder / "tokenizer.model", bytes);
    if (model.changes_text || model.blank_is_suffix || !model.escapes_blanks)
      return fmt::format(
          "{} changes text before it is encoded ({}): only its tokenizer.model is in the folder, and what "
          "transformers makes of it must be checked",
          tokenizer.name(), model.normalization_rule);
    write_json(folder / "tokenizer.json", sentencepiece_json(model));
  } else if (type == "bytes") {
    write_json(folder / "tokenizer.json", bytes_json(tokenizer));
  } else {
    write_json(folder / "tokenizer.json", characters_tokenizer_json(tokenizer));
    note = "transformers leaves characters without a token out of a text, where Sluice refuses the text";
  }
  write_tokenizer_config(folder, tokenizer, context);
  return note;
}

}  // namespace sluice
