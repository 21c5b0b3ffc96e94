// The wire format: a varint of (field number * 8 + wire type), then a varint (type 0), eight
// bytes (1), a varint of a length and as many bytes (2), or four bytes (5).
#include "data/tokenizers/sentencepiece_model.h"

#include <cmath>
#include <cstring>
#include <unordered_set>

#include "base/error.h"
#include "base/utf8.h"

namespace sluice {
namespace {

struct Damaged {};  // the bytes are no such message

class Message {
 public:
  explicit Message(std::string_view bytes) : rest_(bytes) {}

  // Goes to the next field; false at the end.
  bool next() {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    field_ = tag >> 3;
    type_ = int(tag & 7);
    switch (type_) {
      case 0: number_ = varint(); return true;
      case 1: bytes_ = take(8); return true;
      case 2: bytes_ = take(varint()); return true;
      case 5: bytes_ = take(4); return true;
      default: throw Damaged();
    }
  }

  uint64_t field() const { return field_; }
  int64_t integer() const { return of_type(0), int64_t(number_); }
  bool boolean() const { return integer() != 0; }
  std::string_view bytes() const { return of_type(2), bytes_; }
  float real() const {
    of_type(5);
    float value = 0;
    std::memcpy(&value, bytes_.data(), sizeof value);
    return value;
  }

 private:
  void of_type(int type) const {
    if (type_ != type) throw Damaged();
  }
  std::string_view take(uint64_t count) {
    if (count > rest_.size()) throw Damaged();
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint64_t byte = static_cast<unsigned char>(take(1)[0]);
      value |= (byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    throw Damaged();
  }

  std::string_view rest_, bytes_;
  uint64_t field_ = 0, number_ = 0;
  int type_ = 0;
};

SentencePieceModel::Piece read_piece(std::string_view bytes) {
  SentencePieceModel::Piece piece;
  for (Message message(bytes); message.next();) {
    if (message.field() == 1) piece.text = message.bytes();
    if (message.field() == 2) piece.score = message.real();
    if (message.field() == 3) {
      if (message.integer() < 1 || message.integer() > 6) throw Damaged();
      piece.type = SentencePieceModel::PieceType(message.integer());
    }
  }
  return piece;
}

void read_trainer_spec(std::string_view bytes, SentencePieceModel& model) {
  for (Message message(bytes); message.next();) {
    if (message.field() == 3) model.model_type = message.integer();
    if (message.field() == 24) model.blank_is_suffix = message.boolean();
    if (message.field() == 35) model.spells_bytes = message.boolean();
    if (message.field() == 46) model.bos_piece = message.bytes();
    if (message.field() == 47) model.eos_piece = message.bytes();
  }
}

struct NormalizerSpec {
  std::string name;
  bool has_map = false, removes_blanks = true;
};

void read_normalizer_spec(std::string_view bytes, SentencePieceModel& model, NormalizerSpec& spec) {
  for (Message message(bytes); message.next();) {
    if (message.field() == 1) spec.name = message.bytes();
    if (message.field() == 2) spec.has_map = !message.bytes().empty();
    if (message.field() == 3) model.adds_dummy_prefix = message.boolean();
    if (message.field() == 4) spec.removes_blanks = message.boolean();
    if (message.field() == 5) model.escapes_blanks = message.boolean();
  }
}

// Also of the map from tokens back to text, which models do not have.
bool has_denormalizer(std::string_view bytes) {
  for (Message message(bytes); message.next();) {
    if (message.field() == 2 && !message.bytes().empty()) return true;
  }
  return false;
}

SentencePieceModel read_model(std::string_view bytes) {
  SentencePieceModel model;
  NormalizerSpec normalizer;
  for (Message message(bytes); message.next();) {
    if (message.field() == 1) model.pieces.push_back(read_piece(message.bytes()));
    if (message.field() == 2) read_trainer_spec(message.bytes(), model);
    if (message.field() == 3) read_normalizer_spec(message.bytes(), model, normalizer);
    if (message.field() == 5) model.changes_text |= has_denormalizer(message.bytes());
  }
  model.normalization_rule = normalizer.name;
  model.changes_text |= normalizer.has_map || normalizer.removes_blanks;
  return model;
}

// What the library would stumble over, or silently do otherwise.
std::string fault_of(const SentencePieceModel& model) {
  if (model.pieces.empty()) return "it has no pieces";
  std::unordered_set<std::string_view> seen;
  int64_t unknown = 0;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    if (piece.text.empty()) return fmt::format("piece {} is empty", id);
    if (scan_utf8(piece.text).valid != piece.text.size() || piece.text.find('\0') != std::string::npos) {
      return fmt::format("piece {} is not valid UTF-8 text", id);
    }
    if (!std::isfinite(piece.score)) return fmt::format("piece {} has the score {}", id, piece.score);
    if (!seen.insert(piece.text).second) return fmt::format("piece {} stands there twice", id);
    unknown += piece.type == SentencePieceModel::PieceType::kUnknown;
  }
  if (unknown != 1) return fmt::format("it has {} pieces for what is unknown instead of 1", unknown);
  if (model.model_type != 1 && model.model_type != 2) return "it is neither a unigram nor a bpe model";
  if (model.changes_text) {
    return fmt::format(
        "it changes text before it encodes it (normalization rule \"{}\", or it cuts blanks); only models "
        "that keep text as it is can be used (spm_train --normalization_rule_name=identity "
        "--remove_extra_whitespaces=false --byte_fallback=true)",
        model.normalization_rule);
  }
  if (!model.escapes_blanks || model.blank_is_suffix) return "it does not mark blanks at the beginning of words";
  return "";
}

}  // namespace

int32_t SentencePieceModel::find(std::string_view text) const {
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (pieces[id].text == text) return int32_t(id);
  }
  return -1;
}

SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& path, const std::string& key) {
  SentencePieceModel model;
  try {
    model = read_model(bytes);
  } catch (const Damaged&) {
    throw UserError("{}: {} is not a sentencepiece model, or damaged", key, path);
  }
  const std::string fault = fault_of(model);
  if (!fault.empty()) throw UserError("{}: the sentencepiece model {} cannot be used: {}", key, path, fault);
  return model;
}

}  // namespace sluice
