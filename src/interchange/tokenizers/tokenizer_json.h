// A tokenizer as the tokenizer.json of https://github.com/huggingface/tokenizers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/config/config.h"
#include "data/tokenizers/sentencepiece_model.h"
#include "data/tokenizers/tokenizer.h"
#include "data/tokenizers/wordpiece_tokenizer.h"

namespace sluice {

// Of a sentencepiece model that neither changes text nor has symbols of its user.
Json sentencepiece_json(const SentencePieceModel& model);
// A character of this model's special names ("<unk>", "<0x41>", "<|endoftext|>") that has no piece of its own: then the
// library may take such a name, spelled in a text, for the token. Nullopt: there is none, or the model is no unigram
// model.
std::optional<std::string> unspellable_name(const SentencePieceModel& model);

Json bytes_tokenizer_json(const Tokenizer& tokenizer);
Json characters_tokenizer_json(const Tokenizer& tokenizer);

// An entry of "added_tokens".
Json added_token(int64_t id, const std::string& text, bool special);

// From GPT-2's two files; `vocabulary` is vocab.json, `merges` merges.txt, `added` a list of added tokens beside them.
// They have been read by load_tokenizer.
Json gpt2_tokenizer_json(const Json& vocabulary, const std::string& merges, Json added);

// BERT's from a vocab.txt, which make_wordpiece_tokenizer has taken: the first and last token stand around texts.
Json wordpiece_json(const WordPieceFiles& files);
// Makes the library put the tokens before and behind every text that a WordPiece tokenizer puts around documents.
void put_around_texts(Json& tokenizer_json, const Tokenizer& tokenizer);
// How transformers' BertTokenizer is told to do what a WordPiece tokenizer.json says, as tokenizer_config.json has it;
// where it cannot, that file counts (PreTrainedTokenizerFast).
void describe_wordpiece(const Json& tokenizer_json, const Tokenizer& tokenizer, Json& config);

// Makes the library put token `id` before every text. False where the tokenizer has no such token.
bool put_before_texts(Json& tokenizer_json, int64_t id);

// The name of a token in the library's vocabulary; empty where it has none.
std::string name_of_token(const Json& tokenizer_json, int64_t id);

}  // namespace sluice
