// A sentencepiece model that was written as a tokenizer.json, put together again: by `sluice export`, by the
// transformers library when it saves what it loaded, or as LLaMA 2's. The library writes blanks as U+2581 and has
// merges where sentencepiece has scores; tokens are those of the original model, for which U+2581 in a text is no
// blank.
#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <vector>

#include "base/config/json_text.h"
#include "base/error.h"
#include "data/splitting/byte_level.h"
#include "data/tokenizers/sentencepiece_model.h"
#include "data/tokenizers/tokenizer_files.h"

namespace sluice {
namespace {

using PieceType = SentencePieceModel::PieceType;
constexpr const char* kBlankMark = "\xE2\x96\x81";

// ---- the wire format of a model (sentencepiece_model.h) --------------------------------------------------------------

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += char(value | 0x80);
  return bytes + char(value);
}
std::string number_field(uint64_t field, uint64_t value) { return varint(field << 3) + varint(value); }
std::string bytes_field(uint64_t field, std::string_view bytes) {
  return varint(field << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}
std::string float_field(uint64_t field, float value) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &value, 4);
  return varint(field << 3 | 5) + bytes;
}

std::string model_bytes(const SentencePieceModel& model) {
  std::string bytes;
  for (const auto& piece : model.pieces) {
    bytes += bytes_field(
        1, bytes_field(1, piece.text) + float_field(2, piece.score) + number_field(3, uint64_t(piece.type)));
  }
  const auto unknown = std::find_if(model.pieces.begin(), model.pieces.end(),
                                    [](const auto& piece) { return piece.type == PieceType::kUnknown; });
  std::string trainer = number_field(3, uint64_t(model.model_type)) + number_field(35, 1);
  trainer += number_field(40, uint64_t(unknown - model.pieces.begin()));
  trainer += bytes_field(45, unknown->text) + bytes_field(46, model.bos_piece) + bytes_field(47, model.eos_piece);
  const std::string normalizer = bytes_field(1, "identity") + number_field(3, model.adds_dummy_prefix ? 1 : 0) +
                                 number_field(4, 0) + number_field(5, 1);
  return bytes + bytes_field(2, trainer) + bytes_field(3, normalizer);
}

// ---- what the JSON says ----------------------------------------------------------------------------------------------

class Reader {
 public:
  Reader(const Json& json, const std::string& path, const std::string& key) : json_(json), path_(path), key_(key) {}

  SentencePieceModel run() {
    const Json& inner = json_.at("model");
    if (!inner.is_object() || !inner.contains("vocab")) refuse("its \"model\" has no \"vocab\"");
    if (!json_.value("pre_tokenizer", Json()).is_null()) {
      refuse("it has a pre-tokenizer beside the normalizer that sentencepiece models are written with");
    }
    model_.adds_dummy_prefix = false;
    read_normalizer(json_.value("normalizer", Json()));
    if (!escapes_blanks_) refuse("its normalizer does not write blanks as U+2581, as sentencepiece does");
    if (inner.value("byte_fallback", Json(false)) != true) refuse("its model has no byte_fallback: text would be lost");
    model_.model_type = inner.value("type", Json()) == "Unigram" ? 1 : 2;
    model_.escapes_blanks = true;
    model_.model_type == 1 ? read_unigram(inner) : read_byte_pairs(inner);
    return std::move(model_);
  }

 private:
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> text, Args&&... args) const {
    throw UserError("{}: {} cannot be used as a tokenizer: {}", key_, path_,
                    fmt::format(text, std::forward<Args>(args)...));
  }

  void read_normalizer(const Json& part) {
    const Json type = part.is_object() ? part.value("type", Json()) : Json();
    if (type == "Sequence") {
      for (const Json& inner : part.value("normalizers", Json::array())) {
        if (inner.is_object() && inner.value("type", Json()) == "Sequence") refuse("its normalizers are nested");
        read_normalizer(inner);
      }
    } else if (type == "Prepend" && part.value("prepend", Json()) == kBlankMark && !escapes_blanks_) {
      model_.adds_dummy_prefix = true;
    } else if (type == "Replace" && part.value("pattern", Json()) == Json{{"String", " "}} &&
               part.value("content", Json()) == kBlankMark) {
      escapes_blanks_ = true;
    } else {
      refuse("its normalizer {} is not read beside those that sentencepiece models are written with",
             part.is_object() ? type.dump().substr(0, 40) : part.dump().substr(0, 40));
    }
  }

  // Types of pieces by what is added: special ones no text gives, others are found in texts first.
  void read_types(const std::string& unknown) {
    std::unordered_map<std::string, int64_t> ids;
    for (size_t id = 0; id < model_.pieces.size(); ++id) {
      auto& piece = model_.pieces[id];
      ids.emplace(piece.text, int64_t(id));
      if (byte_of_name(piece.text) >= 0) piece.type = PieceType::kByte;
      if (piece.text == unknown) piece.type = PieceType::kUnknown;
    }
    const Json added = json_.value("added_tokens", Json::array());
    if (!added.is_array()) refuse("\"added_tokens\" is no list");
    for (const Json& token : added) {
      const Json content = token.is_object() ? token.value("content", Json()) : Json();
      const Json id = token.is_object() ? token.value("id", Json()) : Json();
      if (!content.is_string() || !id.is_number_integer()) refuse("an added token has no content or no id");
      const auto text = content.get<std::string>();
      const bool special = token.value("special", Json(false)) == true;
      const auto found = ids.find(text);
      if (found != ids.end() && found->second != id) {
        refuse("the added token \"{}\" has the id {}, but {} in the vocabulary", text.substr(0, 80), id.dump(),
               found->second);
      }
      if (found == ids.end()) {
        if (id != model_.pieces.size()) {
          refuse("the added token \"{}\" has the id {}, but the next is {}", text.substr(0, 80), id.dump(),
                 model_.pieces.size());
        }
        if (!special)
          refuse("\"{}\" is added to a sentencepiece model's vocabulary and not special", text.substr(0, 80));
        ids.emplace(text, int64_t(model_.pieces.size()));
        model_.pieces.push_back({text, 0, PieceType::kControl});
        continue;
      }
      auto& piece = model_.pieces[size_t(found->second)];
      if (piece.type == PieceType::kNormal) piece.type = special ? PieceType::kControl : PieceType::kUserDefined;
    }
    const auto choose = [&](std::string& chosen, std::initializer_list<const char*> names) {
      for (const char* name : names) {
        const auto found = ids.find(name);
        if (found == ids.end() || model_.pieces[size_t(found->second)].type != PieceType::kControl) continue;
        chosen = name;
        return;
      }
    };
    choose(model_.bos_piece, {"<s>", "<bos>"});
    choose(model_.eos_piece, {"</s>", "<eos>"});
  }

  void read_unigram(const Json& inner) {
    const Json& list = inner["vocab"];
    if (!list.is_array()) refuse("its vocabulary is no list of pieces and scores");
    for (const Json& entry : list) {
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
        refuse("a piece of its vocabulary is {}", entry.dump().substr(0, 80));
      }
      model_.pieces.push_back({entry[0].get<std::string>(), entry[1].get<float>(), PieceType::kNormal});
    }
    const Json unknown = inner.value("unk_id", Json());
    if (!unknown.is_number_unsigned() || unknown >= model_.pieces.size())
      refuse("its unk_id is {}", unknown.dump().substr(0, 40));
    read_types(model_.pieces[unknown.get<size_t>()].text);
  }

  void read_byte_pairs(const Json& inner) {
    const Json& vocabulary = inner["vocab"];
    const Json merges = inner.value("merges", Json());
    if (!vocabulary.is_object() || !merges.is_array()) refuse("its \"model\" has no \"vocab\" and \"merges\"");
    model_.pieces.resize(vocabulary.size());
    for (const auto& [text, id] : vocabulary.items()) {
      if (!id.is_number_unsigned() || id >= vocabulary.size() || !model_.pieces[id.get<size_t>()].text.empty()) {
        refuse("the id of \"{}\" is {}, taken or beyond the {} tokens", text.substr(0, 80), id.dump().substr(0, 40),
               vocabulary.size());
      }
      model_.pieces[id.get<size_t>()].text = text;
    }
    const Json unknown = inner.value("unk_token", Json());
    if (!unknown.is_string() || !vocabulary.contains(unknown.get<std::string>())) refuse("it has no unk_token");
    read_types(unknown.get<std::string>());
    score_merges(merges);
  }

  static std::pair<std::string, std::string> parts_of(const Json& merge) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      return {merge[0].get<std::string>(), merge[1].get<std::string>()};
    }
    if (!merge.is_string()) return {};
    const auto line = merge.get<std::string>();
    const size_t blank = line.find(' ');
    return blank == line.npos ? std::pair<std::string, std::string>{}
                              : std::pair(line.substr(0, blank), line.substr(blank + 1));
  }

  // The first merges give the best pieces; all that give one piece stand together.
  void score_merges(const Json& merges) {
    std::unordered_map<std::string_view, size_t> normal;
    for (size_t id = 0; id < model_.pieces.size(); ++id) {
      if (model_.pieces[id].type == PieceType::kNormal) normal.emplace(model_.pieces[id].text, id);
    }
    std::vector<size_t> counted(model_.pieces.size(), 0);
    size_t last = size_t(-1), groups = 0;
    for (const Json& merge : merges) {
      const auto [left, right] = parts_of(merge);
      const auto result = normal.find(left + right);
      if (!normal.contains(left) || !normal.contains(right) || result == normal.end()) {
        refuse("the merge {} has a part or result that is no piece", merge.dump().substr(0, 80));
      }
      const size_t id = result->second;
      if (id != last && counted[id] > 0) refuse_merges();
      if (id != last) model_.pieces[id].score = -float(++groups);
      ++counted[id];
      last = id;
    }
    if (groups > (1 << 24)) refuse_merges();  // as many as a float tells apart
    for (const auto& [text, id] : normal) {
      size_t ways = 0;
      for (size_t cut = 1; cut < std::min<size_t>(text.size(), 1000); ++cut) {
        ways += normal.contains(text.substr(0, cut)) && normal.contains(text.substr(cut));
      }
      if (ways != counted[id]) refuse_merges();
      if (counted[id] == 0) model_.pieces[id].score = -float(groups + 1);
    }
  }

  [[noreturn]] void refuse_merges() const {
    refuse("blanks are written as U+2581, but its merges are not those of a sentencepiece model");
  }

  const Json& json_;
  const std::string& path_;
  const std::string& key_;
  SentencePieceModel model_;
  bool escapes_blanks_ = false;
};

// Its files are the library's, not a .model.
class SentencePieceOfJson final : public Tokenizer {
 public:
  SentencePieceOfJson(const std::string& model, const std::string& path, const std::string& key)
      : inner_(make_sentencepiece(model, path, key)) {
    identify(path, model);
  }
  const char* type() const override { return inner_->type(); }
  int64_t vocab_size() const override { return inner_->vocab_size(); }
  int32_t end_of_text() const override { return inner_->end_of_text(); }
  int32_t ends_text() const override { return inner_->ends_text(); }
  bool adds_blank() const override { return inner_->adds_blank(); }
  bool has_library_files() const override { return true; }
  int32_t unknown() const override { return inner_->unknown(); }
  std::optional<int32_t> mask_token() const override { return inner_->mask_token(); }
  void encode(std::string_view text, std::vector<int32_t>& tokens) const override { inner_->encode(text, tokens); }
  std::string_view token_bytes(int32_t token) const override { return inner_->token_bytes(token); }

 private:
  std::unique_ptr<Tokenizer> inner_;
};

bool marks_blanks(const Json& part) {
  if (!part.is_object()) return false;
  const Json type = part.value("type", Json());
  if (type == "Sequence") {
    const Json list = part.value("normalizers", Json::array());
    return std::any_of(list.begin(), list.end(), [](const Json& inner) {
      return inner.is_object() && inner.value("type", Json()) != "Sequence" && marks_blanks(inner);
    });
  }
  return (type == "Prepend" && part.value("prepend", Json()) == kBlankMark) ||
         (type == "Replace" && part.value("content", Json()) == kBlankMark);
}

}  // namespace

bool is_sentencepiece_json(const Json& json) {
  const Json& model = json.at("model");
  return (model.is_object() && model.value("type", Json()) == "Unigram") ||
         marks_blanks(json.value("normalizer", Json()));
}

std::unique_ptr<Tokenizer> make_sentencepiece_json(const Json& json, const std::string& path, const std::string& key) {
  const SentencePieceModel model = Reader(json, path, key).run();
  return std::make_unique<SentencePieceOfJson>(model_bytes(model), path, key);
}

}  // namespace sluice
