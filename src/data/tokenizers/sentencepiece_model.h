// What a sentencepiece .model file says, read without the library: its pieces and how it treats text. The file is a
// Protocol Buffers message (ModelProto in sentencepiece_model.proto); fields that do not matter here are passed over.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

struct SentencePieceModel {
  enum class PieceType { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };
  struct Piece {
    std::string text;  // blanks are U+2581
    float score = 0;
    PieceType type = PieceType::kNormal;
  };

  std::vector<Piece> pieces;
  int64_t model_type = 1;  // 1 unigram, 2 bpe; words (3) and characters (4) are not read
  bool blank_is_suffix = false;
  bool spells_bytes = false;  // characters without a piece become byte pieces, and not the unknown piece
  std::string bos_piece = "<s>", eos_piece = "</s>";
  // Of the text before it is encoded.
  std::string normalization_rule;
  bool changes_text = false;  // characters are replaced, or runs of blanks cut
  bool adds_dummy_prefix = true, escapes_blanks = true;

  int32_t find(std::string_view text) const;  // the piece's id, or -1
};

// `key` and `path` are named in messages. UserError for what is damaged or cannot be used.
SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& path, const std::string& key);

}  // namespace sluice
