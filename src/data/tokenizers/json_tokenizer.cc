// A tokenizer.json of the library `tokenizers` with a byte-pair encoding. What is not read is refused by name: other
// tokens than the library's must never come out.
#include <algorithm>
#include <array>

#include "base/config/json_text.h"
#include "base/error.h"
#include "data/splitting/byte_level.h"
#include "data/tokenizers/byte_pair_tokenizer.h"
#include "data/tokenizers/tokenizer_files.h"

namespace sluice {

void read_vocabulary(const Json& json, VocabularyFiles& files) {
  if (!json.is_object()) files.refuse("the vocabulary is no object of tokens and their ids");
  files.tokens.reserve(json.size());
  for (const auto& [text, id] : json.items()) {
    if (!id.is_number_integer() || id > INT32_MAX || id < INT32_MIN) {
      files.refuse("the id of \"{}\" is {}", text.substr(0, 80), id.dump().substr(0, 80));
    }
    files.tokens.emplace_back(text, id.get<int64_t>());
  }
}

void read_merge(std::string_view line, BytePairFiles& files) {
  const size_t blank = line.find(' ');
  if (blank == line.npos || line.find(' ', blank + 1) != line.npos) {
    files.refuse("the merge \"{}\" is not two tokens with a blank between", line.substr(0, 80));
  }
  files.merges.emplace_back(line.substr(0, blank), line.substr(blank + 1));
}

void choose_ends(BytePairFiles& files, const std::string& first) {
  const auto first_of = [&](std::initializer_list<std::string_view> names) {
    for (const std::string_view name : names) {
      const auto is_it = [&](const auto& added) { return added.first.special && added.first.text == name; };
      if (!name.empty() && std::any_of(files.added.begin(), files.added.end(), is_it)) return std::string(name);
    }
    return std::string();
  };
  files.ends = first_of({kEndOfText, "<|end_of_text|>", "<\uFF5Cend\u2581of\u2581sentence\uFF5C>", "</s>", "<eos>"});
  files.begins = first_of({kEndOfText, first, "<|begin_of_text|>", "<\uFF5Cbegin\u2581of\u2581sentence\uFF5C>", "<s>",
                           "<bos>", files.ends});
}

bool flag_of(const Json& object, const char* name, bool standard, const VocabularyFiles& files) {
  const auto value = object.find(name);
  if (value == object.end() || value->is_null()) return standard;
  if (!value->is_boolean()) files.refuse("\"{}\" is {} and not true or false", name, value->dump().substr(0, 40));
  return value->get<bool>();
}

namespace {

void read_model(const Json& model, BytePairFiles& files) {
  const Json type = model.value("type", Json("BPE"));
  if (type != "BPE")
    files.refuse("its model is {}; \"BPE\" is read, \"WordPiece\", and what sentencepiece models are written as",
                 type.dump().substr(0, 40));
  if (const Json dropout = model.value("dropout", Json()); !dropout.is_null() && dropout != 0.0) {
    files.refuse("its model has dropout {}: tokens would be drawn at random; set it to null",
                 dropout.dump().substr(0, 40));
  }
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json value = model.value(name, Json());
    if (!value.is_null() && value != "")
      files.refuse("its model has a {} ({}), which is not read", name, value.dump().substr(0, 40));
  }
  files.byte_fallback = flag_of(model, "byte_fallback", false, files);
  files.ignore_merges = flag_of(model, "ignore_merges", false, files);
  files.fuse_unknown = flag_of(model, "fuse_unk", false, files);
  const Json unknown = model.value("unk_token", Json());
  if (!unknown.is_null() && !unknown.is_string()) files.refuse("its unk_token is {}", unknown.dump().substr(0, 40));
  if (unknown.is_string()) files.unknown = unknown.get<std::string>();
  read_vocabulary(model["vocab"], files);
  for (const Json& merge : model["merges"]) {
    if (merge.is_string()) {
      read_merge(merge.get_ref<const std::string&>(), files);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      files.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      files.refuse("a merge is {}", merge.dump().substr(0, 80));
    }
  }
}

}  // namespace

AddedToken read_added_token(const Json& token, const VocabularyFiles& files) {
  const auto content = token.is_object() ? token.find("content") : token.end();
  if (!token.is_object() || content == token.end() || !content->is_string())
    files.refuse("an added token has no content or no id");
  AddedToken added{.text = content->get<std::string>()};
  added.special = flag_of(token, "special", false, files);
  added.lstrip = flag_of(token, "lstrip", false, files);
  added.rstrip = flag_of(token, "rstrip", false, files);
  added.single_word = flag_of(token, "single_word", false, files);
  added.normalized = flag_of(token, "normalized", !added.special, files);
  return added;
}

void read_added_tokens(const Json& list, VocabularyFiles& files) {
  if (list.is_null()) return;
  if (!list.is_array()) files.refuse("\"added_tokens\" is no list");
  for (const Json& token : list) {
    AddedToken added = read_added_token(token, files);
    const auto id = token.find("id");
    if (id == token.end() || !id->is_number_integer()) files.refuse("an added token has no content or no id");
    files.added.emplace_back(std::move(added), id->get<int64_t>());
  }
}

// What a post-processor puts before a text; it is looked at for that alone, as a text's own tokens are not its
// business.
std::string first_special(const Json& part, const VocabularyFiles& files) {
  if (part.is_null()) return "";
  const Json type = part.is_object() ? part.value("type", Json()) : Json();
  if (type == "ByteLevel") return "";
  if (type == "Sequence") {
    for (const Json& inner : part.value("processors", Json::array())) {
      if (inner.is_object() && inner.value("type", Json()) == "Sequence")
        files.refuse("its post-processors are nested");
      if (const std::string first = first_special(inner, files); !first.empty()) return first;
    }
    return "";
  }
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    const Json first = part.value("cls", Json());
    return first.is_array() && !first.empty() && first[0].is_string() ? first[0].get<std::string>() : "";
  }
  if (type != "TemplateProcessing") files.refuse("its post-processor {} is not read", type.dump().substr(0, 40));
  const Json single = part.value("single", Json());
  if (!single.is_array() || single.empty() || !single[0].is_object()) return "";
  const Json special = single[0].value("SpecialToken", Json());
  const Json id = special.is_object() ? special.value("id", Json()) : Json();
  return id.is_string() ? id.get<std::string>() : "";
}

namespace {

void check_decoder(const Json& part, const BytePairFiles& files) {
  if (part.is_null()) return;
  const Json type = part.is_object() ? part.value("type", Json()) : Json();
  if (type == "Sequence") {
    for (const Json& inner : part.value("decoders", Json::array())) {
      if (inner.is_object() && inner.value("type", Json()) == "Sequence") files.refuse("its decoders are nested");
      check_decoder(inner, files);
    }
    return;
  }
  for (const char* known : {"ByteLevel", "ByteFallback", "Fuse"}) {
    if (type == known) return;
  }
  files.refuse("its decoder {} is not read", type.dump().substr(0, 40));
}

// Where every byte has a token, nothing is unknown.
void drop_unused_unknown(BytePairFiles& files) {
  if (!files.byte_level) return;
  size_t bytes = 0;
  for (const auto& [name, id] : files.tokens) {
    char32_t stranger = 0;
    if (name.size() > 2) continue;
    const auto text = bytes_of_characters(name, stranger);
    bytes += text && text->size() == 1;
  }
  if (bytes < 256) return;
  files.unknown.clear();
  files.fuse_unknown = files.byte_fallback = false;
}

}  // namespace

std::unique_ptr<Tokenizer> make_json_tokenizer(const Json& json, const std::string& path, const std::string& key) {
  BytePairFiles files{{.path = path, .key = key}};
  const Json& model = json.at("model");
  if (is_sentencepiece_json(json)) return make_sentencepiece_json(json, path, key);
  if (is_wordpiece_json(json)) return make_wordpiece_json(json, path, key);
  if (!model.is_object() || !model.contains("vocab") || !model.contains("merges") || !model["merges"].is_array()) {
    files.refuse("its \"model\" has no \"vocab\" and \"merges\"");
  }
  read_model(model, files);
  try {
    files.pipeline =
        read_pipeline(json.value("normalizer", Json()), json.value("pre_tokenizer", Json()), files.byte_level);
  } catch (const Unreadable& part) {
    files.refuse_text(part.what);
  }
  check_decoder(json.value("decoder", Json()), files);
  read_added_tokens(json.value("added_tokens", Json()), files);
  drop_unused_unknown(files);
  choose_ends(files, first_special(json.value("post_processor", Json()), files));
  return make_byte_pair_tokenizer(std::move(files));
}

}  // namespace sluice
