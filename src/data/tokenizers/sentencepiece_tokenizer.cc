// Encoding with the sentencepiece library (arXiv 1808.06226), decoding by a table.
//
// The library gets a document in words, which have a cache: no piece of the models trained here continues over the end
// of a word or of a line, so the tokens are the same as for the whole (checked against the vocabulary; a model from
// elsewhere with a longer piece gets longer words). A model without pieces for bytes makes one unknown token of all
// unknown characters beside each other, which are joined over the ends of words as well. U+2581, which stands for a
// blank inside the library, is spelled in bytes where it occurs in a text, if there are any.
#include <sentencepiece_processor.h>

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"
#include "data/splitting/byte_level.h"
#include "data/tokenizers/sentencepiece_model.h"
#include "data/tokenizers/tokenizer_files.h"
#include "data/tokenizers/word_cache.h"

namespace sluice {
namespace {

using PieceType = SentencePieceModel::PieceType;
constexpr std::string_view kBlankMark = "\xE2\x96\x81";      // U+2581
constexpr std::string_view kUnknownText = " \xE2\x81\x87 ";  // as the library spells it: U+2047 between blanks

std::string with_blanks(std::string_view piece) {
  std::string text;
  for (size_t at = 0; at < piece.size();) {
    const bool blank = piece.substr(at, kBlankMark.size()) == kBlankMark;
    text += blank ? ' ' : piece[at];
    at += blank ? kBlankMark.size() : 1;
  }
  return text;
}

// A later field of a message wins, so that this behind a model takes its blank before the text away: it is added here,
// once a document and not once a word.
constexpr std::string_view kNoDummyPrefix("\x1A\x02\x18\x00", 4);

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(const std::string& bytes, const std::string& path, const std::string& key) {
    const SentencePieceModel model = parse_sentencepiece_model(bytes, path, key);
    const auto status = processor_.LoadFromSerializedProto(bytes + std::string(kNoDummyPrefix));
    if (!status.ok()) {
      throw UserError("{}: the sentencepiece model {} cannot be used: {}", key, path, status.message());
    }
    read_pieces(model, path, key);
    dummy_prefix_ = model.adds_dummy_prefix;
    end_of_text_ = first_of(model, {std::string(kEndOfText), model.bos_piece, model.eos_piece});
    ends_text_ = first_of(model, {std::string(kEndOfText), model.eos_piece, model.bos_piece});
    for (const std::string_view name : kMaskNames)
      if (const int32_t id = model.find(name); id >= 0 && !mask_ && is_extra(model.pieces[size_t(id)])) mask_ = id;
    identify(path, bytes);
  }

  const char* type() const override { return "sentencepiece"; }
  int64_t vocab_size() const override { return int64_t(texts_.size()); }
  int32_t end_of_text() const override { return end_of_text_; }
  int32_t ends_text() const override { return ends_text_; }
  bool adds_blank() const override { return dummy_prefix_; }
  int32_t unknown() const override { return has_bytes_ ? -1 : unknown_; }
  std::optional<int32_t> mask_token() const override { return mask_; }
  std::string_view token_bytes(int32_t token) const override { return texts_[size_t(token)]; }

  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    if (text.empty()) return;
    const size_t before = tokens.size();
    WordCache& cache = word_cache(owner_);
    if (dummy_prefix_) {  // with its first word, to which it belongs
      const size_t length = word_length(text);
      encode_word(fmt::format(" {}", text.substr(0, length)), tokens);
      text.remove_prefix(length);
    }
    while (!text.empty()) {
      const size_t length = word_length(text);
      cache.append(text.substr(0, length), tokens,
                   [this](std::string_view word, std::vector<int32_t>& ids) { encode_word(word, ids); });
      text.remove_prefix(length);
    }
    if (!has_bytes_) join_unknown(tokens, before);
  }

 private:
  static bool is_extra(const SentencePieceModel::Piece& piece) {  // was put into the vocabulary by hand
    return piece.type == PieceType::kControl || piece.type == PieceType::kUserDefined;
  }

  void read_pieces(const SentencePieceModel& model, const std::string& path, const std::string& key) {
    byte_tokens_.assign(256, -1);
    int64_t bytes = 0;
    for (const auto& piece : model.pieces) {
      if (piece.type == PieceType::kByte) {
        const int byte = byte_of_name(piece.text);
        if (byte < 0) throw UserError("{}: {} is damaged: \"{}\" is not the name of a byte", key, path, piece.text);
        byte_tokens_[size_t(byte)] = int32_t(texts_.size());
        ++bytes;
        texts_.emplace_back(1, char(byte));
        continue;
      }
      if (piece.type == PieceType::kUnknown) unknown_ = int32_t(texts_.size());
      const bool surface = piece.type != PieceType::kControl && piece.type != PieceType::kUnknown;
      texts_.push_back(piece.type == PieceType::kUnknown   ? std::string(kUnknownText)
                       : piece.type == PieceType::kControl ? piece.text
                                                           : with_blanks(piece.text));
      if (surface) note_crossings(texts_.back());
    }
    has_bytes_ = bytes == 256 && model.spells_bytes;
  }

  // Unknown characters beside each other are one token to the library, also over the end of a word.
  void join_unknown(std::vector<int32_t>& tokens, size_t begin) const {
    const auto both = [this](int32_t left, int32_t right) { return left == unknown_ && right == unknown_; };
    tokens.erase(std::unique(tokens.begin() + int64_t(begin), tokens.end(), both), tokens.end());
  }

  void note_crossings(std::string_view text) {
    for (size_t i = 1; i < text.size(); ++i) {
      if (text[i - 1] != ' ' && text[i] == ' ') blanks_divide_ = false;
      if (text[i - 1] == '\n' && text[i] != '\n') lines_divide_ = false;
    }
  }

  static int32_t first_of(const SentencePieceModel& model, const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      const int32_t id = model.find(name);
      if (id >= 0 && model.pieces[size_t(id)].type == PieceType::kControl) return id;
    }
    return -1;
  }

  // The length of the text's first word: a run of blanks and what follows up to the next blank, or a line's end.
  size_t word_length(std::string_view text) const {
    for (size_t i = 1; i < text.size(); ++i) {
      if (blanks_divide_ && text[i] == ' ' && text[i - 1] != ' ') return i;
      if (lines_divide_ && text[i - 1] == '\n' && text[i] != '\n') return i;
      if (i == kMostWordBytes) return character_boundary(text, i);
    }
    return text.size();
  }

  void encode_word(std::string_view word, std::vector<int32_t>& tokens) const {
    for (size_t mark = has_bytes_ ? word.find(kBlankMark) : word.npos; mark != word.npos;
         mark = word.find(kBlankMark)) {
      encode_plain(word.substr(0, mark), tokens);
      for (const char byte : kBlankMark) tokens.push_back(byte_tokens_[static_cast<unsigned char>(byte)]);
      word.remove_prefix(mark + kBlankMark.size());
    }
    encode_plain(word, tokens);
  }

  void encode_plain(std::string_view text, std::vector<int32_t>& tokens) const {
    if (text.empty()) return;
    thread_local std::vector<int> ids;
    const auto status = processor_.Encode(text, &ids);
    if (!status.ok()) throw RunError("{} failed to encode a text: {}", name(), status.message());
    tokens.insert(tokens.end(), ids.begin(), ids.end());
  }

  sentencepiece::SentencePieceProcessor processor_;
  std::vector<std::string> texts_;    // [vocabulary]
  std::vector<int32_t> byte_tokens_;  // [256]
  bool has_bytes_ = false, dummy_prefix_ = false, blanks_divide_ = true, lines_divide_ = true;
  int32_t end_of_text_ = -1, ends_text_ = -1, unknown_ = -1;
  std::optional<int32_t> mask_;
  uint64_t owner_ = next_cache_owner();
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece(const std::string& model, const std::string& path,
                                              const std::string& key) {
  return std::make_unique<SentencePieceTokenizer>(model, path, key);
}

}  // namespace sluice
