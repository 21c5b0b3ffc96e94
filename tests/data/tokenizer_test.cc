// Tokenizers: text there and back, golden values for GPT-2's, the sentencepiece library as the oracle of its words.
#include "data/tokenizers/tokenizer.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <unordered_map>

#include <gtest/gtest.h>

#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/files.h"
#include "base/source_folder.h"
#include "base/utf8.h"
#include "data/corpus/tokenizer_trainer.h"
#include "data/splitting/gpt2_split.h"
#include "data/temp_folder.h"
#include "data/tokenizers/byte_pair_merges.h"

namespace sluice {
namespace {

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> tokens;
  tokenizer.encode(text, tokens);
  return tokens;
}

// Every character once, in parts of some hundred; each with blanks, line ends and the library's own marks around.
std::vector<std::string> every_character() {
  std::vector<std::string> texts;
  std::string text;
  for (char32_t character = 0; character < 0x110000; ++character) {
    if (character >= 0xD800 && character < 0xE000) continue;
    append_utf8(text, character);
    if (character % 97 == 0) text += "  \n\xE2\x96\x81 \t";
    if (text.size() < 2000) continue;
    texts.push_back(std::move(text));
    text.clear();
  }
  texts.push_back(text);
  return texts;
}

const std::vector<std::string> kTexts = {"",
                                         " ",
                                         "\n",
                                         "a",
                                         " a",
                                         "a ",
                                         "  two  blanks  ",
                                         "line\nline\n\n\nline",
                                         "\r\n\t x\t\ty",
                                         "for (int i = 0; i < 10; ++i) {\n    sum += i;\n}\n",
                                         "12345",
                                         "\xE2\x96\x81marked\xE2\x96\x81\xE2\x96\x81 x",
                                         std::string("nul \0 nul", 9),
                                         "<|endoftext|><s><unk><0x41>",
                                         "\xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x8E\x89",
                                         std::string(3000, 'x') + std::string(3000, ' ') + std::string(200, '\n'),
                                         "\xE2\x96\x85 \xE2\x81\x87"};

// A text with enough words for a small vocabulary: this project's own documents.
std::vector<std::string> own_documents() {
  return {(source_folder() / "README.md").string(), (source_folder() / "docs" / "architecture.md").string(),
          (source_folder() / "src" / "data").string()};
}

std::string train(const TempFolder& folder, const std::string& type, int64_t vocab, const std::string& name) {
  TokenizerTraining options;
  options.type = type;
  options.vocab_size = vocab;
  return folder.write(name, train_tokenizer(own_documents(), {}, options, [](const DocumentReader&) {}).file);
}

TEST(Tokenizer, Bytes) {
  const auto tokenizer = load_tokenizer("bytes", "data.tokenizer");
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->end_of_text(), 256);
  EXPECT_EQ(tokenizer->name(), "bytes (257 tokens)");
  EXPECT_EQ(encode(*tokenizer, "a\xC3\xA9"), (std::vector<int32_t>{97, 0xC3, 0xA9}));
  for (const std::string& text : kTexts) EXPECT_EQ(tokenizer->decode(encode(*tokenizer, text)), text);
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{256, 97}), "<|endoftext|>a");
  EXPECT_EQ(message_of<UserError>([&] { tokenizer->decode(std::vector<int32_t>{257}); }),
            "token 257 is not in the vocabulary of bytes (257 tokens): the largest is 256");
}

TEST(Tokenizer, Characters) {
  TempFolder folder;
  const std::string path = folder.write("c.json", characters_json(U"ba\u00e9a\n"));
  const auto tokenizer = load_tokenizer(path, "data.tokenizer");
  EXPECT_EQ(tokenizer->vocab_size(), 5);
  EXPECT_EQ(encode(*tokenizer,
                   "\xC3\xA9"
                   "ab\n"),
            (std::vector<int32_t>{3, 1, 2, 0}));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{3, 1, 2, 0, 4}),
            "\xC3\xA9"
            "ab\n<|endoftext|>");
  EXPECT_EQ(message_of<UserError>([&] { encode(*tokenizer, "abc"); }),
            "the text has the character U+0063, which characters c.json (5 tokens) does not have");
  const auto refused = [&](const std::string& json) {
    return message_of<UserError>([&] { load_tokenizer(folder.write("bad.json", json), "data.tokenizer"); });
  };
  EXPECT_NE(refused(R"({"characters": []})").find("no list of code points"), std::string::npos);
  EXPECT_NE(refused(R"({"characters": [97, 97]})").find("must rise, but 97 follows 97"), std::string::npos);
  EXPECT_NE(refused(R"({"characters": [55296]})").find("has 55296, which is no code point"), std::string::npos);
  EXPECT_NE(refused(R"({"characters": ["a"]})").find("which is no code point"), std::string::npos);
  EXPECT_NE(refused("[]").find("is no tokenizer"), std::string::npos);
}

TEST(Tokenizer, HashFollowsTheContentNotTheName) {
  TempFolder folder;
  const auto hash = [&](const std::string& name, const std::u32string& characters) {
    return load_tokenizer(folder.write(name, characters_json(characters)), "data.tokenizer")->hash();
  };
  EXPECT_EQ(hash("a.json", U"abc"), hash("b.json", U"cba"));
  EXPECT_NE(hash("a.json", U"abc"), hash("a.json", U"abd"));
}

TEST(Tokenizer, WhatIsNotThere) {
  TempFolder folder;
  EXPECT_NE(message_of<UserError>([] {
              load_tokenizer("no/such.model", "data.tokenizer");
            }).find("data.tokenizer: there is no tokenizer \"no/such.model\""),
            std::string::npos);
  EXPECT_NE(
      message_of<UserError>([&] { load_tokenizer(folder.file(""), "data.tokenizer"); }).find("has no tokenizer.model"),
      std::string::npos);
}

// ---- sentencepiece --------------------------------------------------------------------------------------------------

class SentencePiece : public testing::TestWithParam<std::string> {};

TEST_P(SentencePiece, KeepsEveryText) {
  TempFolder folder;
  const auto tokenizer = load_tokenizer(train(folder, GetParam(), 600, "t.model"), "data.tokenizer");
  EXPECT_EQ(tokenizer->vocab_size(), 600);
  EXPECT_EQ(tokenizer->end_of_text(), 1);
  EXPECT_EQ(tokenizer->token_bytes(1), kEndOfText);
  for (const std::string& text : kTexts) {
    const auto tokens = encode(*tokenizer, text);
    EXPECT_EQ(tokenizer->decode(tokens), text);
    for (const int32_t token : tokens) EXPECT_GT(token, 1) << "the unknown or the end's token in: " << text;
  }
  for (const std::string& text : every_character()) ASSERT_EQ(tokenizer->decode(encode(*tokenizer, text)), text);
}

// The library with the whole text at once; without U+2581, which is a blank to it. Unigram pieces are chosen by the sum
// of their scores, which the library keeps in fp32 (2^-24 of the sum for each of some additions that matter): between
// choices as close as that, such as where a run of blanks is divided, the whole may choose another one, but none that
// is better.
TEST_P(SentencePiece, WordsGiveTheTokensOfTheWhole) {
  TempFolder folder;
  const std::string path = train(folder, GetParam(), 600, "t.model");
  const auto tokenizer = load_tokenizer(path, "data.tokenizer");
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.Load(path).ok());
  std::vector<std::string> texts{read_file(source_folder() / "CONTRIBUTING.md"),
                                 read_file(source_folder() / "CMakeLists.txt")};
  for (const std::string& text : kTexts) {
    if (text.find("\xE2\x96\x81") == text.npos) texts.push_back(text);
  }
  const auto score = [&](const std::vector<int32_t>& tokens) {
    double sum = 0;
    for (const int32_t token : tokens) sum += double(library.GetScore(token));
    return sum;
  };
  for (const std::string& text : texts) {
    const auto tokens = encode(*tokenizer, text), whole = library.EncodeAsIds(text);
    if (GetParam() == "bpe") {
      EXPECT_EQ(tokens, whole) << text.substr(0, 80);
    }
    EXPECT_GE(score(tokens), score(whole) * (1 + 1e-6)) << text.substr(0, 80);
    size_t different = 0;
    for (size_t i = 0; i < tokens.size() && tokens.size() == whole.size(); ++i) different += tokens[i] != whole[i];
    EXPECT_LE(different, 2 + tokens.size() / 20) << text.substr(0, 80);  // a run divided elsewhere is two other tokens
    EXPECT_NEAR(double(tokens.size()), double(whole.size()), double(whole.size()) / 50);
  }
}

TEST_P(SentencePiece, LearnsTheSameTwice) {
  TempFolder folder;
  EXPECT_EQ(read_file(train(folder, GetParam(), 500, "a.model")), read_file(train(folder, GetParam(), 500, "b.model")));
}

TEST_P(SentencePiece, LearnsDigitsAloneAndBlanksTogether) {
  TempFolder folder;
  const auto tokenizer = load_tokenizer(train(folder, GetParam(), 600, "t.model"), "data.tokenizer");
  EXPECT_EQ(encode(*tokenizer, "2024").size(), 4u);
  EXPECT_LT(encode(*tokenizer, "        ").size(), 8u);         // indentation is common in the text
  EXPECT_LT(encode(*tokenizer, " the attention").size(), 10u);  // of 14 letters
}

INSTANTIATE_TEST_SUITE_P(Types, SentencePiece, testing::Values("bpe", "unigram"));

// LLaMA's models put a blank before a text, which decoding takes away where a text begins and nowhere else.
TEST(SentencePieceFile, ABlankBeforeATextIsNoPartOfIt) {
  TempFolder folder;
  const std::string with_blank = read_file(train(folder, "bpe", 400, "t.model")) + std::string("\x1A\x02\x18\x01", 4);
  const auto tokenizer = load_tokenizer(folder.write("b.model", with_blank), "data.tokenizer");
  ASSERT_TRUE(tokenizer->adds_blank());
  EXPECT_FALSE(load_tokenizer(folder.file("t.model"), "data.tokenizer")->adds_blank());
  const auto tokens = encode(*tokenizer, "the model");
  EXPECT_EQ(tokenizer->token_bytes(tokens[0])[0], ' ');
  EXPECT_EQ(tokenizer->decode(tokens), "the model");
  EXPECT_EQ(tokenizer->decode(tokens, /*continued=*/true), " the model");
}

// LLaMA's kind: <s> stands before a text, </s> behind it.
TEST(SentencePieceFile, ATextMayEndWithAnotherTokenThanItBegins) {
  std::string model;
  class Lines final : public sentencepiece::SentenceIterator {
   public:
    bool done() const override { return next_ >= 50; }
    void Next() override { line_ = fmt::format("word number {} of the text", ++next_); }
    const std::string& value() const override { return line_; }
    sentencepiece::util::Status status() const override { return {}; }

   private:
    int next_ = 0;
    std::string line_ = "the first line";
  } lines;
  const std::unordered_map<std::string, std::string> settings = {{"model_type", "bpe"},
                                                                 {"vocab_size", "300"},
                                                                 {"normalization_rule_name", "identity"},
                                                                 {"minloglevel", "2"},
                                                                 {"remove_extra_whitespaces", "false"},
                                                                 {"byte_fallback", "true"},
                                                                 {"hard_vocab_limit", "false"}};
  ASSERT_TRUE(sentencepiece::SentencePieceTrainer::Train(settings, &lines, &model).ok());
  TempFolder folder;
  const auto tokenizer = load_tokenizer(folder.write("llama.model", model), "data.tokenizer");
  EXPECT_EQ(tokenizer->token_bytes(tokenizer->end_of_text()), "<s>");
  EXPECT_EQ(tokenizer->token_bytes(tokenizer->ends_text()), "</s>");
  const auto own = load_tokenizer(train(folder, "bpe", 400, "t.model"), "data.tokenizer");
  EXPECT_EQ(own->ends_text(), own->end_of_text());
}

TEST(SentencePieceFile, DamagedOnesAreRefused) {
  TempFolder folder;
  const std::string model = read_file(train(folder, "bpe", 400, "t.model"));
  const auto refused = [&](const std::string& bytes) {
    return message_of<UserError>([&] { load_tokenizer(folder.write("bad.model", bytes), "data.tokenizer"); });
  };
  EXPECT_NE(refused(model.substr(0, 5)).find("is not a sentencepiece model, or damaged"), std::string::npos);
  for (size_t i = 0; i < 8; ++i) {  // within a piece, and behind one
    EXPECT_NE(refused(model.substr(0, model.size() / 2 + i)).find("sentencepiece model"), std::string::npos);
  }
  EXPECT_NE(refused("").find("it has no pieces"), std::string::npos);
  EXPECT_NE(refused("hello").find("is not a sentencepiece model, or damaged"), std::string::npos);
  // A second piece of the same text, as a message of field 1 behind the model: "the" is a piece of any English text.
  EXPECT_NE(refused(model + std::string("\x0A\x05\x0A\x03new\x0A\x05\x0A\x03new", 14)).find("stands there twice"),
            std::string::npos);
  // The normalizer's field 4 (it cuts blanks) set again.
  EXPECT_NE(refused(model + std::string("\x1A\x02\x20\x01", 4)).find("it changes text before it encodes it"),
            std::string::npos);
}

TEST(TokenizerTraining, ATextTooSmall) {
  TempFolder folder;
  TokenizerTraining options;
  const auto refused = [&](const std::string& text) {
    return message_of<UserError>(
        [&] { train_tokenizer({folder.write("t.txt", text)}, {}, options, [](const DocumentReader&) {}); });
  };
  EXPECT_EQ(refused(""), "the input has no text");
  for (const char* type : {"bpe", "unigram"}) {
    options.type = type;
    EXPECT_NE(refused("one two three four five").find("vocabulary of 8192 tokens cannot be learned from this text"),
              std::string::npos)
        << refused("one two three four five");
  }
}

// ---- GPT-2 ----------------------------------------------------------------------------------------------------------

std::string golden(const char* file) { return (source_folder() / "tests/golden/gpt2_tokenizer" / file).string(); }

TEST(Gpt2Tokenizer, AgreesWithAnotherImplementation) {
  TempFolder folder;
  for (const char* file : {"vocab.json", "merges.txt"}) folder.write(file, read_file(golden(file)));
  const auto from_json = load_tokenizer(golden("tokenizer.json"), "data.tokenizer");
  const auto from_folder = load_tokenizer(folder.file(""), "data.tokenizer");
  EXPECT_EQ(from_json->hash(), from_folder->hash());
  EXPECT_EQ(from_json->vocab_size(), 700);
  EXPECT_EQ(from_json->end_of_text(), 0);
  const Json cases = read_json_file(golden("cases.json"));
  ASSERT_GT(cases.size(), 20u);
  for (const Json& one : cases) {
    const auto text = one["text"].get<std::string>();
    const auto tokens = encode(*from_json, text);
    EXPECT_EQ(tokens, one["tokens"].get<std::vector<int32_t>>()) << text;
    EXPECT_EQ(encode(*from_folder, text), tokens) << text;
    EXPECT_EQ(from_json->decode(tokens), text);
  }
}

TEST(Gpt2Tokenizer, KeepsEveryText) {
  const auto tokenizer = load_tokenizer(golden("tokenizer.json"), "data.tokenizer");
  for (const std::string& text : kTexts) EXPECT_EQ(tokenizer->decode(encode(*tokenizer, text)), text);
  for (const std::string& text : every_character()) ASSERT_EQ(tokenizer->decode(encode(*tokenizer, text)), text);
}

TEST(Gpt2Tokenizer, ClassesOfCharacters) {
  using enum CharacterClass;
  EXPECT_EQ(class_of(U'a'), kLetter);
  EXPECT_EQ(class_of(0), kOther);
  EXPECT_EQ(class_of(0x10FFFF), kOther);
  EXPECT_EQ(class_of(U'9'), kNumber);
  EXPECT_EQ(class_of(0xB2), kNumber);    // superscript two
  EXPECT_EQ(class_of(0x2167), kNumber);  // roman eight
  EXPECT_EQ(class_of(0x85), kBlank);
  EXPECT_EQ(class_of(0x3000), kBlank);
  EXPECT_EQ(class_of(0x200B), kOther);  // zero width space is none
  EXPECT_EQ(class_of(0x4E00), kLetter);
  EXPECT_EQ(class_of(0x301), kOther);  // a combining mark
}

TEST(Gpt2Tokenizer, RefusesWhatDoesNotFitTogether) {
  TempFolder folder;
  const Json good = read_json_file(golden("tokenizer.json"));
  const auto refused = [&](auto change) {
    Json json = good;
    change(json);
    return message_of<UserError>([&] { load_tokenizer(folder.write("t.json", json.dump()), "data.tokenizer"); });
  };
  const auto has = [](const std::string& message, const char* part) { return message.find(part) != message.npos; };
  EXPECT_TRUE(has(refused([](Json& j) { j["model"]["vocab"]["!"] = 2; }), "the id 2 is taken twice"));
  EXPECT_TRUE(has(refused([](Json& j) { j["model"]["vocab"]["!"] = -3; }), "has the id -3, but there are 700 tokens"));
  EXPECT_TRUE(
      has(refused([](Json& j) { j["model"]["merges"].push_back("zz zz"); }), "a part or result that is no token"));
  EXPECT_TRUE(
      has(refused([](Json& j) { j["model"]["merges"].push_back("zz"); }), "is not two tokens with a blank between"));
}

// Published folders of other models hold all three files, and only tokenizer.json tells that they are not GPT-2's.
TEST(Gpt2Tokenizer, TokenizerJsonSpeaksForItsFolder) {
  TempFolder folder;
  for (const char* file : {"vocab.json", "merges.txt"}) folder.write(file, read_file(golden(file)));
  Json json = read_json_file(golden("tokenizer.json"));
  json["normalizer"] = {{"type", "Lowercase"}};
  folder.write("tokenizer.json", json.dump());
  EXPECT_NE(message_of<UserError>([&] { load_tokenizer(folder.file(""), "data.tokenizer"); }).find("its normalizer"),
            std::string::npos);
}

TEST(Gpt2Tokenizer, EndlessWordsAreCutBetweenCharacters) {
  const auto tokenizer = load_tokenizer(golden("tokenizer.json"), "data.tokenizer");
  std::string text = "x";
  while (text.size() < 2 * kMostWordBytes) text += "\xC3\xA9";
  const auto tokens = encode(*tokenizer, text);
  EXPECT_EQ(tokenizer->decode(tokens), text);
  auto parts = encode(*tokenizer, text.substr(0, kMostWordBytes - 1));  // the limit itself lies within a character
  for (const int32_t token : encode(*tokenizer, text.substr(kMostWordBytes - 1, kMostWordBytes)))
    parts.push_back(token);
  EXPECT_TRUE(std::equal(parts.begin(), parts.end(), tokens.begin()));
}

// The plain algorithm: the earliest merge anywhere, leftmost first.
TEST(BytePairMerges, AgreeWithThePlainAlgorithm) {
  struct Merge {
    int32_t left, right, merged;
  };
  const std::vector<Merge> list = {{0, 1, 3}, {3, 0, 4}, {1, 1, 5}, {3, 3, 6}, {6, 4, 7}, {2, 2, 8}, {0, 0, 9}};
  BytePairMerges merges;
  for (const Merge& merge : list)
    EXPECT_TRUE(merges.add(merge.left, merge.right, merge.merged, int32_t(merges.size())));
  EXPECT_FALSE(merges.add(0, 1, 5, 7));
  for (uint32_t number = 0; number < 6561; ++number) {  // all words of eight symbols
    std::vector<int32_t> word, fast;
    for (uint32_t rest = number, i = 0; i < 8; ++i, rest /= 3) word.push_back(int32_t(rest % 3));
    merges.encode(word, fast);
    for (bool merged = true; merged;) {
      merged = false;
      for (const Merge& merge : list) {
        for (size_t i = 0; i + 1 < word.size() && !merged; ++i) {
          if (word[i] != merge.left || word[i + 1] != merge.right) continue;
          word[i] = merge.merged;
          word.erase(word.begin() + int64_t(i) + 1);
          merged = true;
        }
        if (merged) break;
      }
    }
    ASSERT_EQ(fast, word) << number;
  }
}

}  // namespace
}  // namespace sluice
