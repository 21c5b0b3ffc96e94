// Sentencepiece models from elsewhere that have no pieces for bytes: the library's own tokens, and a count of what is
// lost.
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <random>
#include <unordered_map>

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/corpus/encode_corpus.h"
#include "data/temp_folder.h"
#include "data/tokenizers/tokenizer.h"

namespace sluice {
namespace {

class Lines final : public sentencepiece::SentenceIterator {
 public:
  bool done() const override { return next_ >= 60; }
  void Next() override { line_ = fmt::format("the quick brown fox number {} jumps over  the lazy dog", ++next_); }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  int next_ = 0;
  std::string line_ = "the first line";
};

std::string model_of(const std::string& type, bool byte_fallback, bool dummy_prefix) {
  Lines lines;
  const std::unordered_map<std::string, std::string> settings = {{"model_type", type},
                                                                 {"vocab_size", byte_fallback ? "330" : "60"},
                                                                 {"normalization_rule_name", "identity"},
                                                                 {"remove_extra_whitespaces", "false"},
                                                                 {"hard_vocab_limit", "false"},
                                                                 {"minloglevel", "2"},
                                                                 {"byte_fallback", byte_fallback ? "true" : "false"},
                                                                 {"add_dummy_prefix", dummy_prefix ? "true" : "false"}};
  std::string model;
  EXPECT_TRUE(sentencepiece::SentencePieceTrainer::Train(settings, &lines, &model).ok());
  return model;
}

// Known and unknown characters, blanks and line ends in any order.
std::vector<std::string> hard_texts() {
  const std::vector<std::string> parts = {"the",          "fox",    " ",      "  ",         "\n",  "\n\n",
                                          "\t",           "\u3089", "\u2167", "\u00ba",     "x",   "Q",
                                          "\u65e5\u672c", " lazy",  "\u2581", "\U0001F600", "\r\n"};
  std::mt19937 random(5);
  std::vector<std::string> texts{"\u3089\n\u2167\n\n\u00ba", "\u3089", " ", "\n", "\u3089 \u3089 the \u3089", "\u2581"};
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (size_t n = 1 + random() % 12; n > 0; --n) text += parts[random() % parts.size()];
    texts.push_back(text);
  }
  return texts;
}

class UnknownTokens : public testing::TestWithParam<std::tuple<std::string, bool>> {};

TEST_P(UnknownTokens, AreTheLibrarysOwn) {
  TempFolder folder;
  const auto [type, dummy_prefix] = GetParam();
  const std::string model = model_of(type, false, dummy_prefix);
  const auto tokenizer = load_tokenizer(folder.write("t.model", model), "--tokenizer");
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.LoadFromSerializedProto(model).ok());
  ASSERT_EQ(tokenizer->unknown(), library.unk_id());
  size_t with_unknown = 0;
  for (const std::string& text : hard_texts()) {
    std::vector<int32_t> tokens{library.unk_id()};  // what stands before is another text's
    tokenizer->encode(text, tokens);
    const std::vector<int> expected = library.EncodeAsIds(text);
    ASSERT_EQ(std::vector<int>(tokens.begin() + 1, tokens.end()), expected) << text;
    with_unknown += std::count(expected.begin(), expected.end(), library.unk_id()) > 0;
  }
  EXPECT_GT(with_unknown, 2000u);
}

INSTANTIATE_TEST_SUITE_P(Types, UnknownTokens,
                         testing::Combine(testing::Values("bpe", "unigram"), testing::Values(false, true)));

TEST(UnknownText, AreCountedWithTheirPlace) {
  TempFolder folder;
  const auto tokenizer = load_tokenizer(folder.write("t.model", model_of("bpe", false, false)), "--tokenizer");
  const std::string text =
      folder.write("c.jsonl", "{\"text\":\"the fox\"}\n{\"text\":\"the \\u3089 fox\\n\"}\n{\"text\":\"\\u3089\"}\n");
  const EncodedCorpus corpus =
      encode_corpus({text}, {}, *tokenizer, {folder.file("out"), 0, 1000}, [](const DocumentReader&) {});
  EXPECT_EQ(corpus.unknown, 3);
  EXPECT_EQ(corpus.first_unknown, text + ", line 2");
}

TEST(UnknownText, ThereAreNoneWhereBytesAreSpelled) {
  TempFolder folder;
  const std::string model = model_of("bpe", true, true);
  const auto tokenizer = load_tokenizer(folder.write("t.model", model), "--tokenizer");
  EXPECT_EQ(tokenizer->unknown(), -1);
  for (const std::string& text : hard_texts()) {
    std::vector<int32_t> tokens;
    tokenizer->encode(text, tokens);
    ASSERT_EQ(tokenizer->decode(tokens), text);
  }
  // Pieces for bytes that the trainer's settings (field 2, then 35) forbid to use: refused, and not a loss of text.
  EXPECT_NE(message_of<UserError>([&] {
              load_tokenizer(folder.write("u.model", model + std::string("\x12\x03\x98\x02\x00", 5)), "--tokenizer");
            }).find("u.model cannot be used"),
            std::string::npos);
}

}  // namespace
}  // namespace sluice
