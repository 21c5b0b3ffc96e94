// The tokens of a byte-pair encoding with their ids, checked: what BytePairFiles says in the form that encoding needs.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/tokenizers/byte_pair_merges.h"
#include "data/tokenizers/byte_pair_tokenizer.h"

namespace sluice {

struct BytePairVocabulary {
  // UserError for what does not fit together.
  explicit BytePairVocabulary(const BytePairFiles& files);

  int32_t find(std::string_view bytes) const;  // -1: no token of the model has these bytes
  std::string canonical() const;               // the same for all kinds of files

  std::vector<std::string> bytes;                          // [vocabulary], empty for ids that no token has
  std::vector<bool> special;                               // [vocabulary]
  std::unordered_map<std::string, int32_t> ids;            // of the model's tokens by their bytes
  std::array<int32_t, 256> byte_tokens{};                  // what a byte begins as; -1: nothing
  std::unordered_map<char32_t, int32_t> character_tokens;  // likewise, where characters are encoded
  BytePairMerges merges;
  std::vector<int32_t> merged;  // left, right, merged of every merge, for the hash
  std::vector<AddedToken> added;
  int32_t unknown = -1, begins = -1, ends = -1, mask = -1;

 private:
  void place(const BytePairFiles& files);
  void place_added(const BytePairFiles& files);
  void put(const BytePairFiles& files, const std::string& name, int64_t id, std::string text, bool is_special);
  void add_symbols(const BytePairFiles& files);
  void add_merges(const BytePairFiles& files);
  void add_ranked_merges(const BytePairFiles& files);
  std::string bytes_of(const BytePairFiles& files, std::string_view written) const;
  int32_t id_of_name(const BytePairFiles& files, const std::string& name) const;

  std::vector<bool> taken_;
  std::unordered_map<std::string, int32_t> names_;  // ids of all tokens as the files name them
};

}  // namespace sluice
