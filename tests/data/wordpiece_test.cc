// BERT's WordPiece: the tokens of the library tokenizers (tests/golden/make_wordpiece_golden.py), documents' marks in
// shards, what does not come back of a text, and refusals.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/files.h"
#include "base/source_folder.h"
#include "base/utf8.h"
#include "data/corpus/encode_corpus.h"
#include "data/corpus/shard_text.h"
#include "data/sources/token_shards.h"
#include "data/splitting/bert_text.h"
#include "data/splitting/nfc.h"
#include "data/temp_folder.h"
#include "data/tokenizers/tokenizer.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

std::string golden_path(const char* name) { return (source_folder() / "tests/golden/wordpiece" / name).string(); }

const Json& golden() {
  static const Json json = read_json_file(golden_path("golden.json"));
  return json;
}

Json vocabulary() {
  Json ids = Json::object();
  std::istringstream lines(read_file(golden_path("vocab.txt")));
  int64_t id = 0;
  for (std::string line; std::getline(lines, line);) ids.emplace(line, id++);
  return ids;
}

Json case_of(std::string_view name) {
  for (Json one : golden()["cases"]) {
    if (one["name"] != name) continue;
    one["json"]["model"]["vocab"] = vocabulary();
    return one;
  }
  throw std::logic_error(std::string(name));
}

std::unique_ptr<Tokenizer> load(const TempFolder& folder, const Json& json) {
  return load_tokenizer(folder.write("tokenizer.json", json.dump()), "data.tokenizer");
}

// From a vocab.txt alone in its folder, or with a tokenizer_config.json.
std::unique_ptr<Tokenizer> load_vocabulary(const TempFolder& folder, const std::string& vocabulary,
                                           const std::string& config = "") {
  fs::remove(folder.file("tokenizer_config.json"));
  if (!config.empty()) folder.write("tokenizer_config.json", config);
  return load_tokenizer(folder.write("vocab.txt", vocabulary), "data.tokenizer");
}

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> tokens;
  tokenizer.encode(text, tokens);
  return tokens;
}

void expect_golden(const Tokenizer& tokenizer, const Json& one) {
  const Json& texts = golden()["texts"];
  ASSERT_EQ(one["tokens"].size(), texts.size());
  ASSERT_GT(texts.size(), 50u);
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto text = texts[i].get<std::string>();
    const auto tokens = encode(tokenizer, text);
    EXPECT_EQ(tokens, one["tokens"][i].get<std::vector<int32_t>>()) << one["name"] << ": " << text;
    EXPECT_EQ(tokenizer.decode(tokens), one["decoded"][i].get<std::string>()) << one["name"] << ": " << text;
  }
}

TEST(WordPiece, AgreesWithTheLibrary) {
  const TempFolder folder;
  std::set<uint64_t> hashes;
  for (const Json& each : golden()["cases"]) {
    const Json one = case_of(each["name"].get<std::string>());
    const auto tokenizer = load(folder, one["json"]);
    EXPECT_STREQ(tokenizer->type(), "wordpiece");
    expect_golden(*tokenizer, one);
    EXPECT_TRUE(hashes.insert(tokenizer->hash()).second) << one["name"];
  }
}

TEST(WordPiece, AVocabularyWithItsConfigIsTheSameTokenizer) {
  const TempFolder folder;
  const std::string lines = read_file(golden_path("vocab.txt"));
  for (const Json& each : golden()["cases"]) {
    if (each["config"].is_null()) continue;
    const Json one = case_of(each["name"].get<std::string>());
    Json config = one["config"];
    const auto plain = load_vocabulary(folder, lines, config.empty() ? "" : config.dump());
    expect_golden(*plain, one);
    EXPECT_EQ(plain->hash(), load(folder, one["json"])->hash()) << one["name"];
    config.update({{"tokenizer_class", "BertTokenizerFast"}, {"cls_token", {{"content", "[CLS]"}}}});
    config["added_tokens_decoder"]["0"] = {{"content", "[PAD]"}, {"special", true}};
    EXPECT_EQ(load_vocabulary(folder, lines, config.dump())->hash(), plain->hash()) << one["name"];
  }
}

TEST(WordPiece, AFolderIsReadAndLineEndsDoNotCount) {
  const TempFolder folder;
  fs::create_directories(folder.file("bert"));
  std::string lines = "\xEF\xBB\xBF";
  for (const char c : read_file(golden_path("vocab.txt"))) lines += c == '\n' ? std::string("\r\n") : std::string(1, c);
  lines.resize(lines.size() - 2);
  folder.write("bert/vocab.txt", lines);
  EXPECT_EQ(load_tokenizer(folder.file("bert"), "x")->hash(), load_tokenizer(golden_path("vocab.txt"), "x")->hash());
}

TEST(WordPiece, SpecialTokensAreFoundByTheirNamesAndNeverInAText) {
  const auto tokenizer = load_tokenizer(golden_path("vocab.txt"), "data.tokenizer");
  EXPECT_EQ(tokenizer->token_bytes(tokenizer->end_of_text()), "[CLS]");
  EXPECT_EQ(tokenizer->end_of_text(), 2);
  EXPECT_EQ(tokenizer->closes_text(), 3);
  EXPECT_EQ(tokenizer->ends_text(), 3);
  EXPECT_EQ(tokenizer->mask_token(), 4);
  EXPECT_EQ(tokenizer->unknown(), 1);
  EXPECT_EQ(tokenizer->loses(), "case, accents, blanks and control characters");
  for (const char* text : {"[PAD]", "[CLS] [SEP]", "x[MASK]", "[cls]"}) {
    for (const int32_t token : encode(*tokenizer, text)) EXPECT_GT(token, 4) << text;
  }
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{2, 1, 4, 3}), "[CLS] [UNK] [MASK] [SEP]");
}

TEST(WordPiece, EveryCharacterIsNormalizedOnceAndForAll) {
  const BertText how{.space_chinese = false};  // a blank more each time
  std::string once, twice;
  for (char32_t character = 0; character < 0x110000; ++character) {
    if (character >= 0xD800 && character < 0xE000) continue;
    std::string text = "a";
    append_utf8(text, character);
    text += 'b';
    const std::string first(how.normalized(text, once));
    ASSERT_EQ(scan_utf8(first).valid, first.size()) << uint32_t(character);
    EXPECT_EQ(how.normalized(first, twice), first) << uint32_t(character);
  }
}

// utf8proc's own order of marks takes the square of their number.
TEST(WordPiece, ManyMarksBesideEachOtherTakeTimeInProportion) {
  const auto start = std::chrono::steady_clock::now();
  std::string marks = "e", copy;
  for (const char* mark : {"\u0345", "\U0001D16D", "\u0301", "\U0001D165", "\u0323", "\u0F73"}) {
    for (int i = 0; i < 100'000; ++i) marks += mark;
  }
  const std::string text(nfd(marks, copy));
  EXPECT_EQ(text.size(), marks.size() + 3 * 100'000);  // U+0F73 is two marks
  EXPECT_EQ(nfd(text, copy), text);
  EXPECT_TRUE(text.starts_with("e\u0F71\u0F71"));
  EXPECT_TRUE(text.ends_with("\u0345\u0345"));
  EXPECT_TRUE(nfc(marks, copy).starts_with("\u1EB9\u0F71"));
  const auto tokenizer = load_tokenizer(golden_path("vocab.txt"), "data.tokenizer");
  EXPECT_EQ(encode(*tokenizer, marks), std::vector<int32_t>{1});
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

TEST(WordPiece, DocumentsStandBetweenTheirMarksInShards) {
  const TempFolder folder;
  const auto tokenizer = load_tokenizer(golden_path("vocab.txt"), "data.tokenizer");
  const std::string text = folder.write("text.txt", "Hello World!\n--\nThe  attention of a caf\u00e9\n--\n\u200b\n");
  TextOptions options;
  options.separator = "--";
  const EncodedCorpus corpus =
      encode_corpus({text}, options, *tokenizer, {.out = folder.file("own")}, [](const DocumentReader&) {});
  ASSERT_EQ(corpus.shards.size(), 1u);
  EXPECT_EQ(corpus.documents, 3);
  Shard shard(corpus.shards[0], "test", PlainTokens::kHeader);
  std::vector<int32_t> tokens(size_t(shard.tokens())), expected;
  shard.copy(0, shard.tokens(), tokens.data());
  for (const char* document : {"Hello World!", "The attention of a cafe", ""}) {
    expected.push_back(2);
    tokenizer->encode(document, expected);
    expected.push_back(3);
  }
  EXPECT_EQ(tokens, expected);
  EXPECT_EQ(corpus.tokens, int64_t(expected.size()));
  std::string back;
  decode_shard(
      corpus.shards[0], *tokenizer, "--", [&](std::string_view part) { back += part; }, PlainTokens::kHeader);
  EXPECT_EQ(back, "hello world!\n--\nthe attention of a cafe\n--\n--\n");
}

TEST(WordPiece, BytesOfTargetsAreNotKnown) {
  const TempFolder folder;
  TokenShardsOptions options;
  options.context = 4;
  options.vocab_size = 2000;
  options.tokenizer = load_tokenizer(golden_path("vocab.txt"), "data.tokenizer");
  const std::string text = folder.write("text.txt", "some words of a text that is longer than one window");
  const EncodedCorpus corpus =
      encode_corpus({text}, {}, *options.tokenizer, {.out = folder.file("own")}, [](const DocumentReader&) {});
  const TokenShards shards(corpus.shards, options);
  EXPECT_EQ(shards.target_bytes(0, 2), 0);
  EXPECT_NE(shards.describe().find("; no bits per byte, as wordpiece vocab.txt (1079 tokens) loses case, accents, "
                                   "blanks and control characters"),
            std::string::npos)
      << shards.describe();
  EXPECT_EQ(shards.token_text(2), "[CLS]");
}

TEST(WordPiece, MasksOfOtherTokenizers) {
  const TempFolder folder;
  EXPECT_EQ(load_tokenizer("bytes", "x")->mask_token(), std::nullopt);
  Json json = Json::parse(R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}, "added_tokens": [
      {"id": 2, "content": "<s>", "special": true}, {"id": 3, "content": "<mask>", "special": true, "lstrip": true}]})");
  EXPECT_EQ(load(folder, json)->mask_token(), 3);
  json["added_tokens"][1]["content"] = "[MASK]";
  EXPECT_EQ(load(folder, json)->mask_token(), 3);
  json["added_tokens"][1]["content"] = "<other>";
  EXPECT_EQ(load(folder, json)->mask_token(), std::nullopt);
}

// ---- refusals -------------------------------------------------------------------------------------------------------

void expect_refused(const std::string& message, const std::string& expected) {
  EXPECT_NE(message.find(expected), std::string::npos) << message;
  EXPECT_TRUE(message.starts_with("data.tokenizer: ")) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

TEST(WordPiece, BadVocabulariesAreRefused) {
  const TempFolder folder;
  const std::string good = "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##b\n";
  const auto message = [&](const std::string& lines, const std::string& config = "") {
    return message_of<UserError>([&] { load_vocabulary(folder, lines, config); });
  };
  EXPECT_EQ(message(good), "(nothing was thrown)");
  expect_refused(message(""), "vocab.txt cannot be used as a tokenizer: the file is empty");
  expect_refused(message(good + "a\n"), "the token \"a\" is there twice, as 4 and 6");
  expect_refused(message(good + "a \n"), "the token \"a\" is there twice, as 4 and 6");
  expect_refused(message("[PAD]\n\n[UNK]\n"), "line 2 is empty; a line is a token");
  expect_refused(message("[PAD]\n[CLS]\n[SEP]\n"), "it has no token \"[UNK]\", which is to be its unknown token");
  expect_refused(message("[UNK]\n\xC3(\n"), "line 2 is not valid UTF-8");
  expect_refused(message(good, R"({"cls_token": "<s>"})"), "it has no token \"<s>\", which is to be its first token");
  expect_refused(message(good, R"({"cls_token": "a"})"), "its token \"a\" is special, but would be found in a text");
  expect_refused(message(good, R"({"cls_token": 5})"), "\"cls_token\" of its tokenizer_config.json is 5");
  expect_refused(message(good, R"({"tokenizer_class": "EsmTokenizer"})"),
                 "says \"EsmTokenizer\", which is none of BERT's");
  expect_refused(message(good, R"({"do_lower_case": "no"})"), "\"do_lower_case\" is \"no\" and not true or false");
  expect_refused(message(good, R"({"do_basic_tokenize": false})"), "do_basic_tokenize = false, which is not read");
  expect_refused(message(good, R"({"added_tokens_decoder": {"x": {"content": "<x>"}}})"), "is no id");
  expect_refused(message(good, R"({"added_tokens_decoder": {"9": {"content": "<x>"}}})"), "numbers them it is 6");
  expect_refused(message(good, "[]"), "its tokenizer_config.json is no object");
  EXPECT_NE(message(good, "{").find("tokenizer_config.json"), std::string::npos);
}

TEST(WordPiece, BadTokenizerJsonIsRefused) {
  const TempFolder folder;
  const Json good = case_of("uncased")["json"];
  const auto refused = [&](const char* place, const Json& value, const std::string& expected) {
    Json json = good;
    json[Json::json_pointer(place)] = value;
    expect_refused(message_of<UserError>([&] { load(folder, json); }), expected);
  };
  refused("/model/type", "WordLevel", "its \"model\" has no \"vocab\" and \"merges\"");
  refused("/model/vocab", Json::array(), "the vocabulary is no object of tokens and their ids");
  refused("/model/vocab", Json::object(), "it has no tokens");
  refused("/model/vocab/the", 2, "the id 2 is taken twice");
  refused("/model/vocab/the", -1, "the token \"the\" has the id -1, but there are");
  refused("/model/unk_token", "<unk>", "it has no token \"<unk>\", which is to be its unknown token");
  refused("/model/unk_token", 1, "its unk_token is 1");
  refused("/model/continuing_subword_prefix", nullptr, "its continuing_subword_prefix is null");
  refused("/model/max_input_chars_per_word", 0, "its max_input_chars_per_word is 0");
  refused("/model/max_input_chars_per_word", 5000,
          "a word of 5000 characters is to be the longest; 1 to 1000 are read");
  refused("/normalizer/type", "Lowercase",
          "its normalizer \"Lowercase\" is not read with WordPiece; BertNormalizer is");
  refused("/normalizer/lowercase", 1, "\"lowercase\" is 1 and not true or false");
  refused("/pre_tokenizer/type", "Whitespace", "its pre-tokenizer \"Whitespace\" is not read with WordPiece");
  refused("/pre_tokenizer", nullptr, "its pre-tokenizer null is not read with WordPiece");
  refused("/decoder/type", "BPEDecoder", "its decoder \"BPEDecoder\" is not read with WordPiece");
  refused("/decoder/prefix", "@@", "its decoder has the prefix \"@@\", its model \"##\"");
  refused("/post_processor/type", "Other", "its post-processor \"Other\" is not read");
  refused("/post_processor/single/0/SpecialToken/id", "<s>", "it has no token \"<s>\", which is to be its first token");
  refused("/added_tokens/0/id", 7, "the added token \"[PAD]\" has the id 7, but 0 in the vocabulary");
  refused("/added_tokens/5", {{"id", 1079}, {"content", "\u200b"}}, "of the text of an added token nothing is left");
}

}  // namespace
}  // namespace sluice
