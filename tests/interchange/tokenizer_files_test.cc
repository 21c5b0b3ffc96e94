// A tokenizer's files for the transformers library. That the library makes the same tokens of text is checked by
// scripts/check_transformers.py; here what its files must say.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "base/config/json_text.h"
#include "base/error_text.h"
#include "base/files/files.h"
#include "base/source_folder.h"
#include "data/corpus/tokenizer_trainer.h"
#include "data/temp_folder.h"
#include "data/tokenizers/sentencepiece_model.h"
#include "interchange/tokenizers/tokenizer_files.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// A sentencepiece model learned from this repository's first page.
std::string train(const TempFolder& folder, const std::string& type) {
  TokenizerTraining training;
  training.type = type;
  training.vocab_size = 500;
  const std::string text = (source_folder() / "README.md").string();
  return folder.write("own.model", train_tokenizer({text}, {}, training, [](const DocumentReader&) {}).file);
}

Json files_of(const TempFolder& folder, const std::string& path, std::string* note = nullptr,
              int64_t first_token = -1) {
  const auto tokenizer = load_tokenizer(path, "test");
  fs::create_directories(folder.file("out"));
  const std::string text =
      write_tokenizer_files(path, *tokenizer, {.context = 96, .first_token = first_token}, folder.file("out"));
  if (note) *note = text;
  EXPECT_EQ(read_json_file(folder.file("out/tokenizer_config.json"))["model_max_length"], 96);
  return read_json_file(folder.file("out/tokenizer.json"));
}

// A masked model's: a piece of the tokenizer, one right behind its pieces, or none that transformers could know.
TEST(TokenizerFiles, TheMaskTokenHasAName) {
  const TempFolder folder;
  const std::string path = train(folder, "bpe");
  const auto tokenizer = load_tokenizer(path, "test");
  const auto files = [&](int64_t mask, const std::string& out) {
    fs::create_directories(folder.file(out));
    return write_tokenizer_files(path, *tokenizer, {.context = 96, .mask_token = mask}, folder.file(out));
  };
  const auto config = [&](const std::string& out) {
    return read_json_file(folder.file(out + "/tokenizer_config.json"));
  };
  EXPECT_EQ(files(500, "behind"), "");
  EXPECT_EQ(config("behind")["mask_token"], "[MASK]");
  const auto again = load_tokenizer(folder.file("behind/tokenizer.json"), "test");
  EXPECT_EQ(again->mask_token(), 500);
  EXPECT_EQ(again->vocab_size(), 501);
  std::vector<int32_t> tokens, before;
  again->encode("a [MASK] of a text", tokens), tokenizer->encode("a [MASK] of a text", before);
  EXPECT_EQ(tokens, before) << "a name in a text is text";
  EXPECT_EQ(files(0, "own"), "");
  EXPECT_EQ(config("own")["mask_token"], "<unk>");
  expect_contains(files(505, "none"), {"data.masking.token 505", "no token of"});
  EXPECT_FALSE(config("none").contains("mask_token"));
  EXPECT_EQ(files(-1, "causal"), "");
  EXPECT_FALSE(config("causal").contains("mask_token"));
}

TEST(TokenizerFiles, ABytePairModelsMergesMakeItsPiecesBestFirst) {
  const TempFolder folder;
  const std::string path = train(folder, "bpe");
  const Json json = files_of(folder, path);
  const SentencePieceModel model = parse_sentencepiece_model(read_file(path), path, "test");
  const Json& vocabulary = json["model"]["vocab"];
  ASSERT_EQ(vocabulary.size(), model.pieces.size());
  for (size_t id = 0; id < model.pieces.size(); ++id) EXPECT_EQ(vocabulary[model.pieces[id].text], id);
  EXPECT_EQ(json["model"]["unk_token"], "<unk>");
  EXPECT_EQ(json["model"]["byte_fallback"], true);

  float last = 1e9f;
  std::set<std::string> made;
  for (const Json& merge : json["model"]["merges"]) {
    const std::string piece = merge[0].get<std::string>() + merge[1].get<std::string>();
    const float score = model.pieces.at(size_t(model.find(piece))).score;
    EXPECT_LE(score, last) << piece;
    last = score;
    made.insert(piece);
  }
  size_t longer = 0;  // pieces of more than one character
  for (const auto& piece : model.pieces) {
    const bool normal = piece.type == SentencePieceModel::PieceType::kNormal;
    const auto characters =
        std::count_if(piece.text.begin(), piece.text.end(), [](char c) { return (c & 0xC0) != 0x80; });
    longer += normal && characters > 1;
  }
  EXPECT_EQ(made.size(), longer);
}

TEST(TokenizerFiles, AUnigramModelKeepsItsScores) {
  const TempFolder folder;
  const std::string path = train(folder, "unigram");
  const Json json = files_of(folder, path);
  const SentencePieceModel model = parse_sentencepiece_model(read_file(path), path, "test");
  ASSERT_EQ(json["model"]["vocab"].size(), model.pieces.size());
  double least = 0;
  for (const auto& piece : model.pieces) least = std::min(least, double(piece.score));
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    EXPECT_EQ(json["model"]["vocab"][id][0], model.pieces[id].text);
    const double score = json["model"]["vocab"][id][1].get<double>();
    // A name of a byte or a special token in a text is worse than its characters.
    if (model.pieces[id].type == SentencePieceModel::PieceType::kNormal)
      EXPECT_EQ(float(score), model.pieces[id].score);
    else EXPECT_LT(score, least * double(model.pieces[id].text.size()));
  }
  EXPECT_EQ(json["model"]["unk_id"], 0);
  ASSERT_EQ(json["added_tokens"].size(), 1u);  // <unk> is not among them: in a text it is text
  EXPECT_EQ(json["added_tokens"][0]["content"], "<|endoftext|>");
  EXPECT_EQ(json["post_processor"], nullptr);
  EXPECT_EQ(read_file(folder.file("out/tokenizer.model")), read_file(path));
}

TEST(TokenizerFiles, BytesAndCharacters) {
  const TempFolder folder;
  const Json bytes = files_of(folder, "bytes");
  EXPECT_EQ(bytes["model"]["vocab"].size(), 257u);
  EXPECT_EQ(bytes["model"]["vocab"]["<0xE2>"], 0xE2);
  EXPECT_EQ(bytes["added_tokens"][0]["id"], 256);
  fs::remove_all(folder.file("out"));
  std::string note;
  const Json characters = files_of(folder, folder.write("own.json", characters_json(U"aé\n")), &note);
  EXPECT_EQ(characters["model"]["vocab"], (Json{{"\n", 0}, {"a", 1}, {"é", 2}, {"<|endoftext|>", 3}}));
  EXPECT_NE(note.find("without a token"), std::string::npos) << note;
}

// 256 bytes, "ab" and the end of text.
Json gpt2_vocabulary() {
  Json vocabulary = Json::object();
  // Bytes as GPT-2 writes them: only printable ones are needed here, the others get made-up names of the right range.
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const int code = printable ? byte : next++;
    const std::string name =
        code < 0x80 ? std::string(1, char(code)) : std::string{char(0xC0 | code >> 6), char(0x80 | (code & 0x3F))};
    vocabulary[name] = byte;
  }
  vocabulary["ab"] = 256;
  vocabulary["<|endoftext|>"] = 257;
  return vocabulary;
}

// Of one byte.
std::string base64_of(int byte) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  return {digits[size_t(byte) >> 2], digits[(size_t(byte) & 3) << 4], '=', '='};
}

TEST(TokenizerFiles, Gpt2sFilesAreCopiedAndBecomeATokenizerJson) {
  const TempFolder folder;
  fs::create_directories(folder.file("gpt2"));
  const Json vocabulary = gpt2_vocabulary();
  folder.write("gpt2/vocab.json", vocabulary.dump());
  folder.write("gpt2/merges.txt", "#version: 0.2\na b\n");
  const auto tokenizer = load_tokenizer(folder.file("gpt2"), "test");
  fs::create_directories(folder.file("out"));
  EXPECT_EQ(write_tokenizer_files(folder.file("gpt2"), *tokenizer, {.context = 96}, folder.file("out")), "");
  const Json json = read_json_file(folder.file("out/tokenizer.json"));
  EXPECT_EQ(json["model"]["merges"], Json::parse(R"([["a", "b"]])"));
  EXPECT_EQ(json["model"]["vocab"], vocabulary);
  EXPECT_EQ(json["pre_tokenizer"]["type"], "ByteLevel");
  EXPECT_EQ(json["added_tokens"][0]["id"], 257);
  for (const char* name : {"vocab.json", "merges.txt"})
    EXPECT_EQ(read_file(folder.file("out/") + name), read_file(folder.file("gpt2/") + name));
  EXPECT_EQ(load_tokenizer(folder.file("out"), "test")->hash(), tokenizer->hash());
}

TEST(TokenizerFiles, AddedTokensBesideGpt2sFilesAreSpecialOrFoundInTexts) {
  const TempFolder folder;
  fs::create_directories(folder.file("gpt2"));
  folder.write("gpt2/vocab.json", gpt2_vocabulary().dump());
  folder.write("gpt2/merges.txt", "\xEF\xBB\xBF#version: 0.2\r\na b\r\n");
  folder.write("gpt2/added_tokens.json", R"({"<tool>": 258, "<end>": 259})");
  folder.write("gpt2/special_tokens_map.json", R"({"eos_token": "<end>"})");
  const Json json = files_of(folder, folder.file("gpt2"));
  EXPECT_EQ(json["model"]["merges"], Json::parse(R"([["a", "b"]])"));
  ASSERT_EQ(json["added_tokens"].size(), 3u);
  EXPECT_EQ(json["added_tokens"][1]["special"], false);
  EXPECT_EQ(json["added_tokens"][2]["special"], true);
  EXPECT_EQ(load_tokenizer(folder.file("out"), "test")->vocab_size(), 260);
}

TEST(TokenizerFiles, RanksAreCopiedWithANote) {
  const TempFolder folder;
  std::string ranks;
  for (int byte = 0; byte < 256; ++byte) ranks += fmt::format("{} {}\n", base64_of(byte), byte);
  const std::string path = folder.write("cl100k_base.tiktoken", ranks);
  const auto tokenizer = load_tokenizer(path, "test");
  fs::create_directories(folder.file("out"));
  const std::string note = write_tokenizer_files(path, *tokenizer, {.context = 96}, folder.file("out"));
  EXPECT_NE(note.find("there is no tokenizer.json for tiktoken"), std::string::npos) << note;
  EXPECT_EQ(read_file(folder.file("out/cl100k_base.tiktoken")), ranks);
  EXPECT_FALSE(fs::exists(folder.file("out/tokenizer.json")));
}

TEST(TokenizerFiles, BertsVocabularyBecomesABertTokenizer) {
  const TempFolder folder;
  const std::string lines = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n";
  fs::create_directories(folder.file("bert"));
  folder.write("bert/vocab.txt", lines);
  folder.write("bert/tokenizer_config.json", R"({"do_lower_case": false, "added_tokens_decoder": {
      "7": {"content": "<t>", "special": false, "normalized": false}}})");
  std::string note;
  const Json json = files_of(folder, folder.file("bert"), &note);
  EXPECT_EQ(note, "");
  EXPECT_EQ(json["model"]["vocab"]["##b"], 6);
  EXPECT_EQ(json["added_tokens"].size(), 6u);
  EXPECT_EQ(json["added_tokens"][5]["special"], false);
  EXPECT_EQ(json["normalizer"]["lowercase"], false);
  EXPECT_EQ(json["post_processor"]["special_tokens"]["[SEP]"]["ids"], Json::array({3}));
  EXPECT_EQ(json["post_processor"]["pair"].size(), 5u);
  const Json config = read_json_file(folder.file("out/tokenizer_config.json"));
  EXPECT_EQ(config["tokenizer_class"], "BertTokenizer");
  EXPECT_EQ(config["do_lower_case"], false);
  EXPECT_EQ(config["split_special_tokens"], true);
  for (const auto& [key, name] : std::map<std::string, std::string>{{"unk_token", "[UNK]"},
                                                                    {"cls_token", "[CLS]"},
                                                                    {"sep_token", "[SEP]"},
                                                                    {"mask_token", "[MASK]"},
                                                                    {"pad_token", "[PAD]"}})
    EXPECT_EQ(config[key], name);
  EXPECT_FALSE(config.contains("eos_token"));
  EXPECT_EQ(read_file(folder.file("out/vocab.txt")), lines);
  const auto tokenizer = load_tokenizer(folder.file("bert"), "test");
  EXPECT_EQ(load_tokenizer(folder.file("out"), "test")->hash(), tokenizer->hash());
  EXPECT_EQ(load_tokenizer(folder.file("out/vocab.txt"), "test")->hash(), tokenizer->hash());
  // And from the tokenizer.json again; a token of the run's before every text is nothing that BertTokenizer does.
  fs::rename(folder.file("out"), folder.file("again"));
  EXPECT_EQ(files_of(folder, folder.file("again/tokenizer.json")), json);
  fs::remove_all(folder.file("out"));
  EXPECT_EQ(files_of(folder, folder.file("again/tokenizer.json"), nullptr, 2), json);
  fs::remove_all(folder.file("out"));
  const Json first = files_of(folder, folder.file("again"), nullptr, 5);
  EXPECT_EQ(first["post_processor"]["single"][0]["SpecialToken"]["id"], "a");
  EXPECT_EQ(read_json_file(folder.file("out/tokenizer_config.json"))["tokenizer_class"], "PreTrainedTokenizerFast");
}

// Shards know their tokenizer by its content, to which an export has added a token.
TEST(TokenizerFiles, AnAddedMaskTokenIsLeftOutOnTheWayBack) {
  const TempFolder folder;
  fs::create_directories(folder.file("gpt2"));
  folder.write("gpt2/vocab.json", gpt2_vocabulary().dump());
  folder.write("gpt2/merges.txt", "#version: 0.2\na b\n");
  fs::create_directories(folder.file("bert"));
  folder.write("bert/vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##b\n");
  for (const std::string name : {"gpt2", "bert"}) {
    SCOPED_TRACE(name);
    const auto tokenizer = load_tokenizer(folder.file(name), "test");
    const std::string out = folder.file(name + "_out"), back = folder.file(name + "_back");
    fs::create_directories(out);
    const int64_t mask = tokenizer->vocab_size();
    EXPECT_EQ(write_tokenizer_files(folder.file(name), *tokenizer, {.context = 96, .mask_token = mask}, out), "");
    EXPECT_EQ(read_json_file(out + "/tokenizer_config.json")["mask_token"], "[MASK]");
    const auto exported = load_tokenizer(out + "/tokenizer.json", "test");
    EXPECT_EQ(exported->mask_token(), mask);
    EXPECT_NE(exported->hash(), tokenizer->hash());
    EXPECT_TRUE(copy_tokenizer_files(out, back));
    EXPECT_EQ(load_tokenizer(back + "/tokenizer.json", "test")->hash(), tokenizer->hash());
    EXPECT_FALSE(read_json_file(back + "/tokenizer_config.json").contains("mask_token"));
  }
}

// Another token than the tokenizer's own counts, and one behind a tokenizer that has a [MASK] gets no second one.
TEST(TokenizerFiles, TheMaskTokenIsTheRunsAndNotTheTokenizers) {
  const TempFolder folder;
  fs::create_directories(folder.file("bert"));
  folder.write("bert/vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n");
  const auto tokenizer = load_tokenizer(folder.file("bert"), "test");
  const auto files = [&](int64_t mask, const std::string& out) {
    fs::create_directories(folder.file(out));
    return write_tokenizer_files(folder.file("bert"), *tokenizer, {.context = 96, .mask_token = mask},
                                 folder.file(out));
  };
  EXPECT_EQ(files(0, "other"), "");
  EXPECT_EQ(read_json_file(folder.file("other/tokenizer_config.json"))["mask_token"], "[PAD]");
  expect_contains(files(7, "behind"), {"data.masking.token 7", "no token of"});
  EXPECT_EQ(read_json_file(folder.file("behind/tokenizer_config.json"))["mask_token"], "[MASK]");
  EXPECT_EQ(read_json_file(folder.file("behind/tokenizer.json"))["added_tokens"].size(), 5u);
}

TEST(TokenizerFiles, TheFirstTokenOfTrainingIsPutBeforeTexts) {
  const TempFolder folder;
  const auto first_of = [&](const std::string& path, int64_t token, std::string* note = nullptr) {
    fs::remove_all(folder.file("out"));
    return files_of(folder, path, note, token)["post_processor"];
  };
  const std::string model = train(folder, "unigram");
  Json expected = Json::parse(R"({"type": "TemplateProcessing", "single": [
      {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]})");
  Json got = first_of(model, 1);
  EXPECT_EQ(got["single"], expected["single"]);
  EXPECT_EQ(got["special_tokens"]["<|endoftext|>"]["ids"], Json::array({1}));
  EXPECT_EQ(first_of("bytes", 10)["special_tokens"]["<0x0A>"]["ids"], Json::array({10}));
  std::string note;
  EXPECT_EQ(first_of("bytes", 300, &note), nullptr);
  EXPECT_NE(note.find("data.first_token 300 is no token of bytes"), std::string::npos) << note;
}

TEST(TokenizerFiles, NamesOfSpecialTokensInATextAreText) {
  const TempFolder folder;
  files_of(folder, train(folder, "bpe"));
  const Json config = read_json_file(folder.file("out/tokenizer_config.json"));
  EXPECT_EQ(config["split_special_tokens"], true);
  EXPECT_EQ(config["bos_token"], "<|endoftext|>");
  EXPECT_EQ(config["pad_token"], "<|endoftext|>");
  EXPECT_FALSE(config.contains("unk_token"));
}

// A sentencepiece model's file with these pieces, of type unigram.
std::string model_file(const std::vector<std::pair<std::string, int>>& pieces) {
  const auto field = [](char tag, const std::string& bytes) { return std::string{tag, char(bytes.size())} + bytes; };
  std::string file;
  for (const auto& [text, type] : pieces)
    file += field('\x0A', field('\x0A', text) + "\x15" + std::string(4, '\0') + "\x18" + char(type));
  return file + field('\x12', "\x18\x01") + field('\x1A', "\x0A\x08identity" + std::string("\x20\x00", 2));
}

TEST(TokenizerFiles, AModelWithSymbolsOfItsUserGivesItsOwnFileAndANote) {
  const TempFolder folder;
  const std::string path = folder.write("own.model", model_file({{"<unk>", 2}, {"a", 1}, {"foo bar", 4}}));
  const auto tokenizer = load_tokenizer(path, "test");
  fs::create_directories(folder.file("out"));
  const std::string note = write_tokenizer_files(path, *tokenizer, {.context = 96}, folder.file("out"));
  EXPECT_NE(note.find("symbols of its user (\"foo bar\")"), std::string::npos) << note;
  EXPECT_TRUE(fs::exists(folder.file("out/tokenizer.model")));
  EXPECT_FALSE(fs::exists(folder.file("out/tokenizer.json")));
}

TEST(TokenizerFiles, AFolderWithoutATokenizerHasNothingToCopy) {
  const TempFolder folder;
  fs::create_directories(folder.file("empty"));
  EXPECT_FALSE(copy_tokenizer_files(folder.file("empty"), folder.file("to")));
  EXPECT_FALSE(fs::exists(folder.file("to")));
}

}  // namespace
}  // namespace sluice
