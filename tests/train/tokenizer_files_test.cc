// A tokenizer's files for the transformers library. That the library makes the same tokens of text is checked by
// scripts/check_transformers.py; here what its files must say.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/files.h"
#include "base/json_text.h"
#include "base/source_folder.h"
#include "data/sentencepiece_model.h"
#include "data/temp_folder.h"
#include "data/tokenizer_trainer.h"
#include "train/interchange/tokenizer_files.h"

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

Json files_of(const TempFolder& folder, const std::string& path, std::string* note = nullptr) {
  const auto tokenizer = load_tokenizer(path, "test");
  fs::create_directories(folder.file("out"));
  const std::string text = write_tokenizer_files(path, *tokenizer, 96, folder.file("out"));
  if (note) *note = text;
  EXPECT_EQ(read_json_file(folder.file("out/tokenizer_config.json"))["model_max_length"], 96);
  return read_json_file(folder.file("out/tokenizer.json"));
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
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    EXPECT_EQ(json["model"]["vocab"][id][0], model.pieces[id].text);
    EXPECT_EQ(json["model"]["vocab"][id][1].get<float>(), model.pieces[id].score);
  }
  EXPECT_EQ(json["model"]["unk_id"], 0);
  EXPECT_EQ(json["added_tokens"][1]["content"], "<|endoftext|>");
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

TEST(TokenizerFiles, Gpt2sFilesAreCopied) {
  const TempFolder folder;
  fs::create_directories(folder.file("gpt2"));
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
  folder.write("gpt2/vocab.json", vocabulary.dump());
  folder.write("gpt2/merges.txt", "#version: 0.2\na b\n");
  const auto tokenizer = load_tokenizer(folder.file("gpt2"), "test");
  fs::create_directories(folder.file("out"));
  EXPECT_EQ(write_tokenizer_files(folder.file("gpt2"), *tokenizer, 96, folder.file("out")), "");
  for (const char* name : {"vocab.json", "merges.txt"})
    EXPECT_EQ(read_file(folder.file("out/") + name), read_file(folder.file("gpt2/") + name));
  EXPECT_EQ(load_tokenizer(folder.file("out"), "test")->hash(), tokenizer->hash());
}

TEST(TokenizerFiles, AFolderWithoutATokenizerHasNothingToCopy) {
  const TempFolder folder;
  fs::create_directories(folder.file("empty"));
  EXPECT_FALSE(copy_tokenizer_files(folder.file("empty"), folder.file("to")));
  EXPECT_FALSE(fs::exists(folder.file("to")));
}

}  // namespace
}  // namespace sluice
