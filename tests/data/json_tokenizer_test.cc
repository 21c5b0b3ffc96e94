// Byte-pair encodings of other models than GPT-2's: the tokens that the libraries tokenizers and tiktoken make of hard
// texts (tests/golden/make_tokenizer_golden.py), refusals, and time that grows with the text alone.
#include <gtest/gtest.h>

#include <chrono>

#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/files.h"
#include "base/source_folder.h"
#include "data/corpus/tokenizer_trainer.h"
#include "data/splitting/added_tokens.h"
#include "data/splitting/expression_syntax.h"
#include "data/splitting/nfc.h"
#include "data/splitting/text_pipeline.h"
#include "data/temp_folder.h"
#include "data/tokenizers/sentencepiece_model.h"
#include "data/tokenizers/tokenizer.h"
#include "interchange/tokenizers/tokenizer_json.h"

namespace sluice {
namespace {

const Json& golden() {
  static const Json json = read_json_file((source_folder() / "tests/golden/tokenizers.json").string());
  return json;
}

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> tokens;
  tokenizer.encode(text, tokens);
  return tokens;
}

// A golden case as a whole tokenizer.json.
Json whole(const Json& one) {
  Json json = one["json"];
  if (!json["model"].contains("vocab")) json["model"].update(golden()["model"]);
  return json;
}

Json case_of(const char* name) {
  for (const Json& one : golden()["pipelines"]) {
    if (one["name"] == name) return whole(one);
  }
  throw std::logic_error(name);
}

std::unique_ptr<Tokenizer> load(const TempFolder& folder, const Json& json) {
  return load_tokenizer(folder.write("tokenizer.json", json.dump()), "data.tokenizer");
}

void expect_golden(const Tokenizer& tokenizer, const Json& one, const std::string& name) {
  const Json& texts = golden()["texts"];
  ASSERT_EQ(one.size(), texts.size());
  ASSERT_GT(texts.size(), 40u);
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto text = texts[i].get<std::string>();
    EXPECT_EQ(encode(tokenizer, text), one[i].get<std::vector<int32_t>>()) << name << ": " << text;
  }
}

TEST(JsonTokenizer, AgreesWithTheLibrary) {
  const TempFolder folder;
  std::set<uint64_t> hashes;
  for (const Json& one : golden()["pipelines"]) {
    const auto name = one["name"].get<std::string>();
    const auto tokenizer = load(folder, whole(one));
    EXPECT_STREQ(tokenizer->type(), "bpe");
    EXPECT_EQ(tokenizer->token_bytes(tokenizer->end_of_text()), "<|endoftext|>");
    expect_golden(*tokenizer, one["tokens"], name);
    EXPECT_TRUE(hashes.insert(tokenizer->hash()).second) << name;
    if (name == "qwen" || name == "prefix") continue;  // these change text
    for (const Json& text : golden()["texts"])
      EXPECT_EQ(tokenizer->decode(encode(*tokenizer, text.get<std::string>())), text);
  }
}

TEST(JsonTokenizer, CharactersAsTheLibrary) {
  const TempFolder folder;
  for (const Json& one : golden()["characters"]) {
    const auto tokenizer = load(folder, whole(one));
    expect_golden(*tokenizer, one["tokens"], one["name"].get<std::string>());
    EXPECT_EQ(tokenizer->unknown(), one["name"] == "fallback" ? -1 : 0);
  }
}

TEST(RankTokenizer, AgreesWithTiktoken) {
  const TempFolder folder;
  const auto file = golden()["ranks"]["file"].get<std::string>();
  for (const Json& one : golden()["ranks"]["cases"]) {
    const auto name = one["name"].get<std::string>();
    const auto tokenizer = load_tokenizer(folder.write("small." + name + ".tiktoken", file), "data.tokenizer");
    EXPECT_STREQ(tokenizer->type(), "tiktoken");
    EXPECT_EQ(tokenizer->vocab_size(), name == "llama3" ? 602 : 601);
    EXPECT_EQ(tokenizer->token_bytes(tokenizer->end_of_text()),
              name == "llama3" ? "<|begin_of_text|>" : "<|endoftext|>");
    expect_golden(*tokenizer, one["tokens"], name);
    for (const Json& text : golden()["texts"])
      EXPECT_EQ(tokenizer->decode(encode(*tokenizer, text.get<std::string>())), text);
  }
  const auto message =
      message_of<UserError>([&] { load_tokenizer(folder.write("tokenizer.model", file), "data.tokenizer"); });
  EXPECT_NE(message.find("its 600 ranks are those of no published one; put the name of the one it belongs to"),
            message.npos)
      << message;
  const auto damaged = message_of<UserError>(
      [&] { load_tokenizer(folder.write("cl100k_base.tiktoken", file + "not base64 1\n"), "data.tokenizer"); });
  EXPECT_NE(damaged.find("line 601 is not a token in base64 and its rank"), damaged.npos) << damaged;
}

TEST(RankTokenizer, TekkenNumbersItsTokensBehindTheSpecialOnes) {
  const TempFolder folder;
  Json json = {
      {"config", {{"pattern", "[a-z]+|[^a-z]"}, {"default_vocab_size", 260}, {"default_num_special_tokens", 3}}},
      {"vocab", Json::array()}};
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text{kDigits[byte >> 2], kDigits[(byte & 3) << 4], '=', '='};
    json["vocab"].push_back({{"rank", byte}, {"token_bytes", text}});
  }
  json["vocab"].push_back({{"rank", 256}, {"token_bytes", "YWI="}});
  json["vocab"].push_back({{"rank", 257}, {"token_bytes", "YmM="}});  // beyond default_vocab_size
  const auto tokenizer = load_tokenizer(folder.write("tekken.json", json.dump()), "data.tokenizer");
  EXPECT_EQ(encode(*tokenizer, "abc <s>"), (std::vector<int32_t>{259, 'c' + 3, ' ' + 3, '<' + 3, 's' + 3, '>' + 3}));
  EXPECT_EQ(tokenizer->end_of_text(), 1);
  EXPECT_EQ(tokenizer->ends_text(), 2);
  EXPECT_EQ(tokenizer->vocab_size(), 260);
  json["config"]["pattern"] = "[a-z]+";
  const auto narrow = load_tokenizer(folder.write("tekken.json", json.dump()), "data.tokenizer");
  EXPECT_NE(message_of<UserError>([&] { encode(*narrow, "ab c"); }).find("leaves 1 bytes of a text out"),
            std::string::npos);
}

TEST(JsonTokenizer, RefusalsNameThePart) {
  const TempFolder folder;
  const auto refused = [&](auto change, const char* name = "qwen") {
    Json json = case_of(name);
    change(json);
    return message_of<UserError>([&] { load(folder, json); });
  };
  const auto has = [](const std::string& message, const char* part) {
    return message.find(part) != message.npos ? testing::AssertionSuccess() : testing::AssertionFailure() << message;
  };
  const auto pre = [&](const char* text) { return refused([&](Json& j) { j["pre_tokenizer"] = Json::parse(text); }); };
  EXPECT_TRUE(has(refused([](Json& j) {
                    j["normalizer"] = {{"type", "Lowercase"}};
                  }),
                  "its normalizer \"Lowercase\" is not read; NFC is"));
  EXPECT_TRUE(has(pre(R"({"type": "Metaspace"})"), "its pre-tokenizer \"Metaspace\" is not read"));
  EXPECT_TRUE(has(
      pre(R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": false}, {"type": "Digits"}]})"),
      "its pre-tokenizer \"Digits\" stands behind \"ByteLevel\""));
  EXPECT_TRUE(has(pre(R"({"type": "Split", "pattern": {"Regex": "\\s"}, "behavior": "Removed", "invert": false})"),
                  "removes text"));
  EXPECT_TRUE(has(pre(R"({"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated", "invert": false})"),
                  "PCRE2 cannot read"));
  EXPECT_TRUE(has(pre(R"({"type": "Split", "pattern": {"Regex": "[a&&b]"}, "behavior": "Isolated", "invert": false})"),
                  "\"&&\" within a class"));
  EXPECT_TRUE(has(pre(R"({"type": "Split", "pattern": {"Regex": "\\bx"}, "behavior": "Isolated", "invert": false})"),
                  "\"\\b\", which is not understood"));
  EXPECT_TRUE(has(refused([](Json& j) { j["post_processor"] = {{"type", "New"}}; }), "its post-processor \"New\""));
  EXPECT_TRUE(has(refused([](Json& j) { j["decoder"] = {{"type", "WordPiece"}}; }), "its decoder \"WordPiece\""));
  EXPECT_TRUE(has(refused([](Json& j) { j["model"]["type"] = "WordLevel"; }), "its model is \"WordLevel\""));
  EXPECT_TRUE(has(refused([](Json& j) { j["model"]["dropout"] = 0.1; }), "its model has dropout 0.1"));
  EXPECT_TRUE(has(refused([](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }), "end_of_word_suffix"));
  EXPECT_TRUE(has(refused([](Json& j) {
                    j["added_tokens"] = Json::array();
                    j["model"]["merges"] = Json::array();
                    j["model"]["vocab"].erase("!");
                    j["model"]["unk_token"] = "?!?";
                  }),
                  "its unk_token \"?!?\" is no token"));
  EXPECT_TRUE(
      has(refused([](Json& j) { j["added_tokens"][1]["id"] = 5; }),
          "the added token \"<|im_start|>\" has the id 5, but as the library tokenizers numbers them it is 601"));
  EXPECT_TRUE(has(refused([](Json& j) { j["model"]["vocab"]["!"] = 1 << 23; }), "has the id 8388608, but there are"));
  EXPECT_TRUE(
      has(refused([](Json& j) { j["model"]["merges"].push_back(j["model"]["merges"][0]); }), "stands there twice"));
}

TEST(JsonTokenizer, ABosOfThePostProcessorStandsBeforeTexts) {
  const TempFolder folder;
  Json json = case_of("llama3");
  json["added_tokens"][0]["content"] = "<|begin_of_text|>";
  json["added_tokens"][1]["content"] = "<|end_of_text|>";
  json["post_processor"] =
      Json::parse(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}]})");
  const auto tokenizer = load(folder, json);
  EXPECT_EQ(tokenizer->end_of_text(), 600);
  EXPECT_EQ(tokenizer->ends_text(), 601);
  const auto tokens = encode(*tokenizer, "<|begin_of_text|>");
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), 600), 0);
}

TEST(JsonTokenizer, GapsInIdsAndBytesWithoutATokenAreTold) {
  const TempFolder folder;
  Json json = case_of("cl100k");
  json["added_tokens"] = Json::array();
  json["model"]["vocab"]["!"] = 700;
  const auto gap = load(folder, json);
  EXPECT_EQ(gap->vocab_size(), 701);
  EXPECT_EQ(encode(*gap, "!"), std::vector<int32_t>{700});
  EXPECT_EQ(gap->token_bytes(650), "");
  json["model"]["vocab"].erase("!");
  json["model"]["merges"] = Json::array();
  const auto lacking = load(folder, json);
  EXPECT_EQ(message_of<UserError>([&] { encode(*lacking, "a!"); }).substr(0, 36),
            "the text has the byte 0x21, which bp");
}

// ---- a sentencepiece model that came back as a tokenizer.json -------------------------------------------------------

TEST(JsonTokenizer, ExportedSentencePieceModelsGiveTheirTokensAgain) {
  const TempFolder folder;
  for (const char* type : {"bpe", "unigram"}) {
    TokenizerTraining options;
    options.type = type;
    options.vocab_size = 600;
    const auto file =
        train_tokenizer({(source_folder() / "README.md").string()}, {}, options, [](const DocumentReader&) {}).file;
    const auto original = load_tokenizer(folder.write("t.model", file), "data.tokenizer");
    const Json json = sentencepiece_json(parse_sentencepiece_model(file, "t.model", "test"));
    const auto back = load(folder, json);
    EXPECT_STREQ(back->type(), "sentencepiece");
    EXPECT_TRUE(back->has_library_files());
    EXPECT_EQ(back->vocab_size(), original->vocab_size());
    EXPECT_EQ(back->end_of_text(), original->end_of_text());
    EXPECT_EQ(back->ends_text(), original->ends_text());
    for (int32_t token = 0; token < int32_t(back->vocab_size()); ++token) {
      EXPECT_EQ(back->token_bytes(token), original->token_bytes(token));
    }
    std::vector<std::string> texts = {read_file(source_folder() / "README.md"), "<unk> <s></s><0x41>"};
    for (const Json& text : golden()["texts"]) texts.push_back(text.get<std::string>());
    for (const std::string& text : texts) {
      EXPECT_EQ(encode(*back, text), encode(*original, text)) << text.substr(0, 200);
      EXPECT_EQ(back->decode(encode(*back, text)), text);
    }
    Json other = json;
    if (other["model"]["type"] == "BPE") {
      other["model"]["merges"].erase(5);
      EXPECT_NE(message_of<UserError>([&] { load(folder, other); }).find("not those of a sentencepiece model"),
                std::string::npos);
    }
    other = json;
    other["normalizer"]["normalizers"].push_back({{"type", "NFKC"}});
    EXPECT_NE(message_of<UserError>([&] { load(folder, other); }).find("its normalizer \"NFKC\" is not read"),
              std::string::npos);
  }
}

TEST(JsonTokenizer, ExportedBytesAndCharactersGiveTheirTokensAgain) {
  const TempFolder folder;
  const auto bytes = load_tokenizer("bytes", "data.tokenizer");
  const auto back = load(folder, bytes_tokenizer_json(*bytes));
  for (const Json& text : golden()["texts"]) {
    EXPECT_EQ(encode(*back, text.get<std::string>()), encode(*bytes, text.get<std::string>()));
  }
  EXPECT_EQ(back->end_of_text(), 256);
  const auto characters = load_tokenizer(folder.write("c.json", characters_json(U"ab\u00e9 ")), "data.tokenizer");
  const auto again = load(folder, characters_tokenizer_json(*characters));
  EXPECT_EQ(encode(*again, "\xC3\xA9 ba"), encode(*characters, "\xC3\xA9 ba"));
  EXPECT_NE(message_of<UserError>([&] { encode(*again, "c"); }).find("the character U+0063"), std::string::npos);
}

// ---- parts ----------------------------------------------------------------------------------------------------------

TEST(AddedTokens, TheLongestOfTheLeftmostCounts) {
  AddedTokens tokens;
  std::vector<AddedToken> list;
  for (const char* text : {"ab", "abcd", "bcde", "x", "special", "x", "ab"}) {
    list.push_back({.text = text});
    list.back().id = int32_t(list.size());
    list.back().special = list.back().text == "special";
  }
  tokens.assign(list);
  const auto divided = [&](std::string_view text) {
    std::string out;
    tokens.divide(
        text, [&](std::string_view part) { out += fmt::format("[{}]", part); },
        [&](int32_t id) { out += fmt::format("{}", id); });
    return out;
  };
  EXPECT_EQ(divided("abcde"), "2[e]");
  EXPECT_EQ(divided("abce"), "1[ce]");
  EXPECT_EQ(divided("bcdex"), "34");
  EXPECT_EQ(divided(" ab ab"), "[ ]1[ ]1");
  EXPECT_EQ(divided("specialxspecial"), "[special]4[special]");
  EXPECT_EQ(divided(std::string_view("x\0ab\0", 5)), std::string("4[\0]1[\0]", 8));
  EXPECT_EQ(divided(""), "");
}

TEST(Expression, IsTranslatedFromItsDialect) {
  const auto ruby = [](const char* pattern) { return translate_expression(pattern, ExpressionDialect::kRuby); };
  const auto rust = [](const char* pattern) { return translate_expression(pattern, ExpressionDialect::kRust); };
  EXPECT_EQ(ruby("\\p{N}{1,3}+"), "(?:\\p{N}{1,3})+");
  EXPECT_EQ(rust("\\p{N}{1,3}+"), "\\p{N}{1,3}+");
  EXPECT_EQ(ruby("(a|b){2}?c{,3}{"), "(?:(?:a|b){2})?c{0,3}\\{");
  EXPECT_EQ(ruby("(?m:.)\\h"), "(?s:.)[0-9A-Fa-f]");
  EXPECT_EQ(ruby("\\p{Han}\\p{^Lu}\\pL\\u4e00"), "\\p{sc:Han}\\P{Lu}\\p{L}\\x{4e00}");
  EXPECT_EQ(ruby("[\\d-a-c-\\p{L}x-z]"), "[\\p{Nd}\\-a-c\\-\\p{L}x-z]");
  for (const char* pattern :
       {"(", "[a", "a)", "\\", "\\p{L", "(?<n>a)", "\\1", "\\G", "[[:alpha:]]", "(?x: a)", "\\xff"}) {
    EXPECT_THROW(Expression(pattern, ExpressionDialect::kRuby), Unreadable) << pattern;
  }
}

TEST(Expression, GivesUpWithASentence) {
  const Expression slow("(?:a|aa)+(?:a|aa)+(?:a|aa)+b", ExpressionDialect::kRuby);
  const std::string text = std::string(3000, 'a') + "xb";
  size_t begin = 0, end = 0;
  const auto message = message_of<UserError>([&] { Expression::Matches(slow, text).next(begin, end); });
  EXPECT_NE(message.find("cannot be matched from byte 0 of a piece of 3002 bytes: "), message.npos) << message;
}

TEST(Nfc, ComposesAsTheLibrary) {
  std::string copy;
  EXPECT_EQ(nfc("plain caf\xC3\xA9", copy), "plain caf\xC3\xA9");
  EXPECT_EQ(nfc("e\xCC\x81x", copy), "\xC3\xA9x");
  EXPECT_EQ(nfc("\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", copy), "\xEA\xB0\x81");
  EXPECT_EQ(nfc("q\xCC\x87\xCC\xA3", copy), "q\xCC\xA3\xCC\x87");
  const std::string late = "\xF0\x91\xA4\xB5\xF0\x91\xA4\xB0";  // composes since Unicode 13
  EXPECT_EQ(nfc(late, copy), late);
  EXPECT_EQ(nfc("e\xCC\x81" + late + "e\xCC\x81", copy), "\xC3\xA9" + late + "\xC3\xA9");
}

TEST(JsonTokenizer, HalfAMillionAddedTokensAndLongRunsTakeTimeInProportion) {
  std::vector<AddedToken> list;
  for (int32_t i = 0; i < 500'000; ++i) {
    list.push_back({.text = fmt::format("<extra_{}>", i)});
    list.back().id = i;
  }
  const auto start = std::chrono::steady_clock::now();
  AddedTokens tokens;
  tokens.assign(std::move(list));
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += "<extra_<extra_7>";
  int64_t found = 0, rest = 0;
  tokens.divide(
      text, [&](std::string_view part) { rest += int64_t(part.size()); }, [&](int32_t id) { found += id == 7; });
  EXPECT_EQ(found, 100'000);
  EXPECT_EQ(rest, 700'000);
  const TempFolder folder;
  for (const char* name : {"o200k", "deepseek", "qwen"}) {
    const auto tokenizer = load(folder, case_of(name));
    for (const char* unit : {" ", "a", "A", "1", "\n", " \n", "!", "\xC3\xA9"}) {
      std::string run;
      for (int i = 0; i < 30'000; ++i) run += unit;
      EXPECT_EQ(tokenizer->decode(encode(*tokenizer, run)), run);
    }
  }
  // Seconds even under sanitizers; the square of any of these would be hours.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

}  // namespace
}  // namespace sluice
