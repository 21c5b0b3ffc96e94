// Tokenizers: text to token ids and back.
//
//   bytes           a token a byte; 256 ends a text
//   characters      a token a character of a list (JSON, written by `sluice tokenizer train --type characters`)
//   sentencepiece   a .model file, trained by `sluice tokenizer train` or elsewhere (arXiv 1808.06226)
//                   or the tokenizer.json that such a model was written as
//   gpt2            byte-level byte-pair encoding with GPT-2's rules, from vocab.json and merges.txt or tokenizer.json
//   bpe             byte-pair encoding with other rules, from a tokenizer.json
//   tiktoken        the same from a file of ranks, or a tekken.json
//   wordpiece       BERT's (arXiv 1810.04805), from its vocab.txt or a tokenizer.json
//
// Text is kept exactly: decode(encode(text)) is `text` for every valid UTF-8 text. Exceptions: characters outside a
// `characters` or `bpe` tokenizer's list are an error; a model from elsewhere with an unknown token loses what it does
// not know; a tokenizer.json may normalize text or let added tokens take blanks along; and of what wordpiece reads,
// words alone come back (loses()).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

inline constexpr std::string_view kEndOfText = "<|endoftext|>";  // the name of end_of_text()

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  virtual const char* type()
      const = 0;  // "bytes", "characters", "sentencepiece", "gpt2", "bpe", "tiktoken", "wordpiece"
  const std::string& name() const { return name_; }  // for messages: "sentencepiece docs.model (8192 tokens)"
  uint64_t hash() const { return hash_; }            // of its content: the same tokens for the same text
  virtual int64_t vocab_size() const = 0;
  virtual int32_t end_of_text() const = 0;  // stands before each document; -1: there is none

  // What a model writes when a text is over: for models from elsewhere it may be another token than the one before a
  // text.
  virtual int32_t ends_text() const { return end_of_text(); }
  // Stands behind each document in shards, as BERT's [SEP] does; -1: nothing.
  virtual int32_t closes_text() const { return -1; }
  // Stands for a token that is to be guessed: what the files call [MASK] or <mask>.
  virtual std::optional<int32_t> mask_token() const { return std::nullopt; }

  // Appends the tokens of `text`, which is valid UTF-8. Never end_of_text(), closes_text() or mask_token(): their names
  // in a text are text (but a mask token that is added and not special is found). Safe to call from several threads.
  // UserError for a character that `characters` does not have.
  virtual void encode(std::string_view text, std::vector<int32_t>& tokens) const = 0;
  // The bytes of one token, 0 <= token < vocab_size(): a part of a character if need be; of end_of_text() its name.
  virtual std::string_view token_bytes(int32_t token) const = 0;
  // Whether encode() puts a blank before a text, as LLaMA's models do, which belongs to no text.
  virtual bool adds_blank() const { return false; }
  // The token that stands for characters which the tokenizer does not know and loses; -1: it knows all, or refuses
  // them.
  virtual int32_t unknown() const { return -1; }
  // What of every text is lost, in words for a sentence ("case and blanks"); empty: nothing. Where something is, bytes
  // of tokens are no bytes of the text.
  virtual std::string_view loses() const { return {}; }
  // Whether its files are those of the library `tokenizers` (or GPT-2's two), which an export takes over.
  virtual bool has_library_files() const { return false; }
  // The text of the tokens; `continued`: they do not begin it. UserError for a token beyond the vocabulary.
  std::string decode(std::span<const int32_t> tokens, bool continued = false) const;

 protected:
  Tokenizer() = default;
  // Called once, by the constructor: `source` is the file's name or empty, `content` what hash() depends on.
  void identify(const std::string& source, std::string_view content);

 private:
  std::string name_;
  uint64_t hash_ = 0;
};

// A longer word is encoded in parts: encoding one takes memory and time beyond proportion, and no language has any.
inline constexpr size_t kMostWordBytes = 1 << 20;  // bytes

// `path_or_name`: "bytes", a .model file, a file of ranks, a characters JSON, a tokenizer.json or tekken.json, or a
// folder with the first there is of tokenizer.model, tokenizer.json, vocab.json and merges.txt, tekken.json. `key` is
// the config key or option to name in messages. UserError where there is none, or a damaged one.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path_or_name, const std::string& key);

// The JSON of a `characters` tokenizer. The characters in any order, each once or more often.
std::string characters_json(std::u32string characters);

}  // namespace sluice
