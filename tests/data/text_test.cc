// Text input: documents by file, separator and JSON line, plain and compressed; samples; shards of a corpus.
#include <omp.h>

#include <set>

#include <gtest/gtest.h>

#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/files.h"
#include "base/source_folder.h"
#include "data/corpus/encode_corpus.h"
#include "data/corpus/shard_text.h"
#include "data/corpus/text_sample.h"
#include "data/corpus/tokenizer_trainer.h"
#include "data/llmc_shard.h"
#include "data/packed_text.h"
#include "data/temp_folder.h"
#include "data/text/document_reader.h"

namespace sluice {
namespace {

std::vector<std::string> documents_of(const std::vector<std::string>& inputs, TextOptions options = {}) {
  DocumentReader reader(inputs, std::move(options));
  std::vector<std::string> documents;
  for (std::string document; reader.next(document);) documents.push_back(document);
  return documents;
}

std::string error_of(const std::string& path, TextOptions options = {}) {
  return message_of<UserError>([&] { documents_of({path}, options); });
}

// A megabyte with characters of every length, so that they lie across the reader's blocks.
std::string long_text() {
  std::string text;
  while (text.size() < 1'000'000)
    text += "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x8E\x89 line " + std::to_string(text.size()) + "\n";
  return text;
}

TEST(DocumentReader, FilesFoldersAndGlobs) {
  TempFolder folder;
  std::filesystem::create_directories(folder.file("in/deep"));
  folder.write("in/b.txt", "two");
  folder.write("in/a.txt", "one");
  folder.write("in/deep/c.md", "three");
  folder.write("in/.hidden", "four");
  folder.write("in/empty", "");
  EXPECT_EQ(documents_of({folder.file("in")}), (std::vector<std::string>{"one", "two", "three"}));
  EXPECT_EQ(documents_of({folder.file("in/*.txt")}), (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(documents_of({folder.file("in/b.txt"), folder.file("in/a.txt")}), (std::vector<std::string>{"two", "one"}));
  EXPECT_EQ(error_of(folder.file("none")), "there is no file " + folder.file("none"));
  EXPECT_EQ(error_of(folder.file("in/*.doc")), "no file matches " + folder.file("in/*.doc"));
}

TEST(DocumentReader, SeparatorLines) {
  TempFolder folder;
  TextOptions options;
  options.separator = "<|doc|>";
  const std::string path =
      folder.write("t.txt", "<|doc|>\none\n two <|doc|>\n<|doc|>\n<|doc|>\nthree\r\n<|doc|>\r\nfour");
  EXPECT_EQ(documents_of({path}, options), (std::vector<std::string>{"one\n two <|doc|>\n", "three\r\n", "four"}));
}

TEST(DocumentReader, JsonLines) {
  TempFolder folder;
  const std::string path =
      folder.write("t.jsonl", "{\"text\": \"a\\nb\"}\n\n  \n{\"id\": 3, \"text\": \"\\u00e9\"}\r\n{\"text\": \"\"}");
  EXPECT_EQ(documents_of({path}), (std::vector<std::string>{"a\nb", "\xC3\xA9"}));
  EXPECT_EQ(documents_of({folder.write("u.jsonl.zst", zstd(read_file(path)))}).size(), 2u);
  TextOptions other;
  other.field = "body";
  other.format = "jsonl";
  EXPECT_EQ(documents_of({folder.write("t.txt", "{\"body\": \"x\"}")}, other), std::vector<std::string>{"x"});
  EXPECT_EQ(error_of(path, other),
            path + ", line 1: there is no \"body\" in this line, which has \"text\"; --field names where the text is");
  EXPECT_NE(error_of(folder.write("v.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}"))
                .find("line 2: \"text\" is a number in this line"),
            std::string::npos);
  EXPECT_NE(error_of(folder.write("w.jsonl", "\n\n{\"text\": \"a"))
                .find("line 3: not valid JSON at column 10: the string that begins here is not closed"),
            std::string::npos);
}

TEST(DocumentReader, CompressedFilesByContent) {
  TempFolder folder;
  const std::string text = long_text();
  EXPECT_EQ(documents_of({folder.write("plain", text)}), std::vector<std::string>{text});
  for (const auto& pack : {zstd, gzip}) {
    const std::string packed = pack(text);
    ASSERT_LT(packed.size(), text.size() / 2);
    EXPECT_EQ(documents_of({folder.write("packed", packed)}), std::vector<std::string>{text});
    EXPECT_EQ(documents_of({folder.write("twice", packed + packed)}), std::vector<std::string>{text + text});
    EXPECT_NE(error_of(folder.write("cut", packed.substr(0, packed.size() / 2))).find("is cut off"), std::string::npos);
    EXPECT_NE(error_of(folder.write("tail", packed.substr(0, packed.size() - 3))).find("is cut off"),
              std::string::npos);
    std::string damaged = packed;
    for (size_t i = 1000; i < 1100; ++i) damaged[i] = char(~damaged[i]);
    EXPECT_NE(error_of(folder.write("damaged", damaged)), "(nothing was thrown)");
  }
}

TEST(DocumentReader, InvalidUtf8) {
  TempFolder folder;
  const std::string start = long_text();
  const std::string path = folder.write("t.txt", start + "\xC3(\xE2\x82");
  EXPECT_EQ(error_of(path), fmt::format("{} is not valid UTF-8: byte {} of its text is 0xC3; --invalid replace puts "
                                        "U+FFFD there, iconv converts text in another encoding",
                                        path, start.size()));
  EXPECT_NE(error_of(folder.write("u.txt", "ab\xE2\x82")).find("byte 2 of its text is 0xE2, and the text ends within"),
            std::string::npos);
  TextOptions replace;
  replace.replace_invalid = true;
  EXPECT_EQ(documents_of({path}, replace), std::vector<std::string>{start + "\xEF\xBF\xBD(\xEF\xBF\xBD"});
}

TEST(DocumentReader, TooLong) {
  TempFolder folder;
  TextOptions options;
  options.max_document_bytes = 10;
  options.separator = "--";
  const std::string path = folder.write("t.txt", "12345\n--\n12345\n7890\n");
  EXPECT_NE(error_of(path, options).find("the document that begins at byte 9 of its text is longer than 10 B"),
            std::string::npos);
  options.split_bytes = 10;
  EXPECT_EQ(documents_of({path}, options), (std::vector<std::string>{"12345\n", "12345\n", "7890\n"}));
  // A line that never ends is cut between characters.
  const std::string line = folder.write("l.txt",
                                        "1234567\xE2\x82\xAC\xE2\x82\xAC"
                                        "9");
  std::string all;
  for (const std::string& part : documents_of({line}, options)) {
    EXPECT_LE(part.size(), 10u);
    all += part;
  }
  EXPECT_EQ(all,
            "1234567\xE2\x82\xAC\xE2\x82\xAC"
            "9");
  // JSON lines cannot be cut: their limit stays that of a document.
  const std::string json = folder.write("t.jsonl", "{\"text\": \"123456789\"}\n");
  EXPECT_NE(error_of(json, options).find("the line that begins at byte 0 of its text is longer than 10 B"),
            std::string::npos);
  options.max_document_bytes = 100;
  EXPECT_EQ(documents_of({json}, options), std::vector<std::string>{"123456789"});
}

// ---- the sample -----------------------------------------------------------------------------------------------------

TEST(TextSample, TakesATextBelowTheLimitWhole) {
  TextSample sample(1000, 1);
  sample.add_document("one\n\n\ntwo\nthree");
  sample.add_document(std::string(10000, 'x'));
  EXPECT_FALSE(sample.whole());
  TextSample small(1000, 1);
  small.add_document("one\n\n\ntwo\nthree");
  EXPECT_TRUE(small.whole());
  EXPECT_EQ(small.take(), (std::vector<std::string>{"one\n\n\n", "two\n", "three"}));
}

TEST(TextSample, IsEvenBoundedAndSeeded) {
  const auto draw = [](uint64_t seed) {
    TextSample sample(50'000, seed);
    for (int line = 0; line < 100'000; ++line) sample.add_document(fmt::format("{:09}\n", line));
    EXPECT_LE(sample.bytes(), 50'000u);
    return sample.take();
  };
  const auto lines = draw(7);
  EXPECT_EQ(lines.size(), 5000u);
  EXPECT_TRUE(std::is_sorted(lines.begin(), lines.end()));
  EXPECT_EQ(lines, draw(7));
  EXPECT_NE(lines, draw(8));
  // Each half is drawn with probability 1/2: 5 standard deviations of a count around 2500 are 5 * sqrt(5000 / 4) = 177.
  const auto first_half = std::lower_bound(lines.begin(), lines.end(), "000050000") - lines.begin();
  EXPECT_NEAR(double(first_half), 2500, 177);
}

// ---- shards ---------------------------------------------------------------------------------------------------------

struct Corpus {
  TempFolder folder;
  std::string text = folder.write("t.txt", "first\n--\nsecond \xC3\xA9\n--\nthird and longer than the others\n--\n");
  std::unique_ptr<Tokenizer> tokenizer = load_tokenizer("bytes", "--tokenizer");
  TextOptions options;
  Corpus() { options.separator = "--"; }

  EncodedCorpus encode(const std::string& out, int64_t shard_tokens = 1000, int64_t width = 0) {
    return encode_corpus({text}, options, *tokenizer, {out, width, shard_tokens}, [](const DocumentReader&) {});
  }
  std::string decode(const EncodedCorpus& corpus) {
    std::string decoded;
    for (const std::string& shard : corpus.shards) {
      decode_shard(shard, *tokenizer, "--", [&](std::string_view part) { decoded += part; });
    }
    return decoded;
  }
};

TEST(EncodeCorpus, ThereAndBack) {
  Corpus corpus;
  for (const int64_t width : {0, 16, 32}) {
    const EncodedCorpus encoded = corpus.encode(corpus.folder.file(fmt::format("out{}/", width)), 1000, width);
    EXPECT_EQ(encoded.shards,
              std::vector<std::string>{corpus.folder.file(fmt::format("out{}/tokens_00000.bin", width))});
    EXPECT_EQ(encoded.documents, 3);
    EXPECT_EQ(encoded.tokens, int64_t(encoded.text_bytes) + 3);
    EXPECT_EQ(corpus.decode(encoded), read_file(corpus.text));
  }
}

TEST(EncodeCorpus, DividesBetweenDocuments) {
  Corpus corpus;
  const EncodedCorpus encoded = corpus.encode(corpus.folder.file("small"), 17);
  ASSERT_EQ(encoded.shards.size(), 3u);
  EXPECT_EQ(encoded.shards[2], corpus.folder.file("small_00002.bin"));
  EXPECT_EQ(corpus.decode(encoded), read_file(corpus.text));
}

TEST(EncodeCorpus, AnyNumberOfThreadsGivesTheSame) {
  Corpus corpus;
  corpus.options.separator = "";
  std::filesystem::create_directories(corpus.folder.file("many"));
  for (int i = 0; i < 100; ++i)
    corpus.folder.write(fmt::format("many/{:03}", i), std::string(size_t(i * i), 'a') + "b");
  corpus.text = corpus.folder.file("many");
  const int before = omp_get_max_threads();
  std::set<std::string> different;
  for (const int threads : {1, 2, 5}) {
    omp_set_num_threads(threads);
    different.insert(read_file(corpus.encode(corpus.folder.file(fmt::format("by{}", threads))).shards.at(0)));
  }
  omp_set_num_threads(before);
  EXPECT_EQ(different.size(), 1u);
}

TEST(EncodeCorpus, RefusesAndLeavesNothing) {
  Corpus corpus;
  corpus.encode(corpus.folder.file("out/a"));
  EXPECT_NE(message_of<UserError>([&] { corpus.encode(corpus.folder.file("out/a")); }).find("is there already"),
            std::string::npos);
  corpus.encode(corpus.folder.file("out/ab"));  // another name
  EXPECT_NE(message_of<UserError>([&] {
              corpus.encode(corpus.folder.file("out/" + std::string(181, 'x')));
            }).find("...: the name has 181 bytes, more than the limit of 180"),
            std::string::npos);

  corpus.folder.write("t.txt", "good\n--\ngood\n--\nbad \xFF\n");
  EXPECT_NE(message_of<UserError>([&] { corpus.encode(corpus.folder.file("out/c"), 5); }).find("is not valid UTF-8"),
            std::string::npos);
  for (const auto& entry : std::filesystem::directory_iterator(corpus.folder.file("out"))) {
    EXPECT_NE(entry.path().filename().string()[0], 'c') << "a refused corpus left " << entry.path();
  }
  corpus.folder.write("t.txt", "--\n--\n");
  EXPECT_EQ(message_of<UserError>([&] { corpus.encode(corpus.folder.file("out/d")); }), "the input has no text");
}

TEST(EncodeCorpus, AVocabularyBeyondTheWidth) {
  Corpus corpus;
  std::u32string characters;
  for (char32_t character = 0x10000; character < 0x10000 + 70'000; ++character) characters += character;
  corpus.tokenizer = load_tokenizer(corpus.folder.write("big.json", characters_json(characters)), "--tokenizer");
  EXPECT_EQ(message_of<UserError>([&] { corpus.encode(corpus.folder.file("x"), 1000, 16); }),
            "--width 16 holds token ids below 65536, but characters big.json (70001 tokens) has 70001 tokens; take "
            "--width 32");
}

TEST(EncodeCorpus, SaysWhereACharacterIsNotKnown) {
  Corpus corpus;
  corpus.tokenizer = load_tokenizer(corpus.folder.write("c.json", characters_json(U"dgo\n")), "--tokenizer");
  const std::string unknown = "the text has the character U+007A, which characters c.json (5 tokens) does not have";
  corpus.folder.write("t.txt", "good\n--\ngoz\n");
  EXPECT_EQ(message_of<UserError>([&] { corpus.encode(corpus.folder.file("x")); }),
            corpus.text + ", from byte 8 of its text: " + unknown);
  corpus.text = corpus.folder.write("t.jsonl", "{\"text\": \"good\"}\n\n{\"text\": \"z\"}\n");
  EXPECT_EQ(message_of<UserError>([&] { corpus.encode(corpus.folder.file("x")); }),
            corpus.text + ", line 3: " + unknown);
}

// Documents are those that the shard lists; tokens come in blocks, which show nowhere.
TEST(DecodeShard, KeepsDocumentsApartAndWhole) {
  Corpus corpus;
  const std::string golden = (source_folder() / "tests/golden/gpt2_tokenizer").string();
  Json vocabulary = read_json_file(golden + "/vocab.json");
  vocabulary.erase("<|endoftext|>");
  for (auto& [text, id] : vocabulary.items()) id = id.get<int64_t>() - 1;  // it was the first
  std::filesystem::create_directories(corpus.folder.file("bare"));
  corpus.folder.write("bare/vocab.json", vocabulary.dump());
  corpus.folder.write("bare/merges.txt", read_file(golden + "/merges.txt"));
  corpus.tokenizer = load_tokenizer(corpus.folder.file("bare"), "--tokenizer");
  ASSERT_EQ(corpus.tokenizer->end_of_text(), -1);
  EXPECT_EQ(corpus.decode(corpus.encode(corpus.folder.file("bare_out"))), read_file(corpus.text));

  TokenizerTraining options;
  options.vocab_size = 400;
  const std::vector<std::string> own = {(source_folder() / "README.md").string()};
  const std::string blank =
      train_tokenizer(own, {}, options, [](const DocumentReader&) {}).file + std::string("\x1A\x02\x18\x01", 4);
  corpus.tokenizer = load_tokenizer(corpus.folder.write("blank.model", blank), "--tokenizer");
  std::string words;
  for (int i = 0; i < 30'000; ++i) words += fmt::format("w {}\n", i % 10);  // at least 90,000 tokens
  corpus.folder.write("t.txt", words + "--\nsecond\n--\n");
  const EncodedCorpus encoded = corpus.encode(corpus.folder.file("blank"), 1'000'000);
  EXPECT_GT(encoded.tokens, 70'000);
  EXPECT_EQ(corpus.decode(encoded), read_file(corpus.text));
  std::string named;
  decode_shard(encoded.shards.at(0), *corpus.tokenizer, "", [&](std::string_view part) { named += part; });
  EXPECT_EQ(named, "<|endoftext|>" + words + "<|endoftext|>second\n");
}

TEST(DecodeShard, ATokenBeyondTheVocabulary) {
  Corpus corpus;
  const std::string path = corpus.folder.file("a.bin");
  write_llmc_shard<uint16_t>(path, std::vector<uint16_t>{'a', 'b', 60000});
  EXPECT_EQ(message_of<UserError>([&] { decode_shard(path, *corpus.tokenizer, "", [](std::string_view) {}); }),
            path + " has token id 60000 at position 2, but bytes (257 tokens) knows only those below 257");
}

TEST(DecodeShard, AnotherTokenizerIsRefused) {
  Corpus corpus;
  const std::string shard = corpus.encode(corpus.folder.file("a")).shards.at(0);
  const auto other = load_tokenizer(corpus.folder.write("c.json", characters_json(U"abc")), "--tokenizer");
  const std::string message = message_of<UserError>([&] { decode_shard(shard, *other, "", [](std::string_view) {}); });
  EXPECT_NE(message.find("was made with the tokenizer bytes (257 tokens)"), std::string::npos) << message;
  EXPECT_NE(message.find("but --tokenizer is characters c.json (4 tokens)"), std::string::npos) << message;
}

}  // namespace
}  // namespace sluice
