// Words to tokens, longest first, with a cache in front, and tokens to text (wordpiece_tokenizer.h).
#include "data/tokenizers/wordpiece_tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/error.h"
#include "base/utf8.h"
#include "data/tokenizers/word_cache.h"

namespace sluice {
namespace {

constexpr int64_t kMostTokens = 1 << 24;
constexpr int64_t kMostCharacters = 1000;  // of a word: what one takes grows with their product with a token's length

// Names in messages, which may be as long as a file.
std::string shown(std::string_view name) {
  return name.size() <= 80 ? std::string(name) : std::string(name.substr(0, character_boundary(name, 80))) + "...";
}

// Texts with ids, sorted: those that go on like a word are a range that every further byte narrows.
class LongestFirst {
 public:
  void add(std::string text, int32_t id) { entries_.push_back({std::move(text), id}); }

  void sort() {
    std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.text < b.text; });
    for (size_t i = 0; i < entries_.size(); ++i) {
      Range& range = of_first_byte_[static_cast<unsigned char>(entries_[i].text[0])];
      if (range.end == 0) range.begin = i;
      range.end = i + 1;
    }
  }

  // The longest of the texts that `word`, which is not empty, begins with: its id, and its length in bytes. -1: none.
  int32_t take(std::string_view word, size_t& length) const {
    const Range range = of_first_byte_[static_cast<unsigned char>(word[0])];
    auto begin = entries_.begin() + std::ptrdiff_t(range.begin), end = entries_.begin() + std::ptrdiff_t(range.end);
    int32_t longest = -1;
    for (size_t depth = 1; begin != end; ++depth) {
      if (begin->text.size() == depth) {  // the shortest comes first
        longest = begin->id;
        length = depth;
        ++begin;
      }
      if (depth == word.size()) break;
      const auto byte = [depth](const Entry& entry) { return static_cast<unsigned char>(entry.text[depth]); };
      const auto wanted = static_cast<unsigned char>(word[depth]);
      begin = std::partition_point(begin, end, [&](const Entry& entry) { return byte(entry) < wanted; });
      end = std::partition_point(begin, end, [&](const Entry& entry) { return byte(entry) == wanted; });
    }
    return longest;
  }

 private:
  struct Entry {
    std::string text;
    int32_t id;
  };
  struct Range {
    size_t begin = 0, end = 0;
  };
  std::vector<Entry> entries_;
  std::array<Range, 256> of_first_byte_{};
};

class WordPieceTokenizer final : public Tokenizer {
 public:
  explicit WordPieceTokenizer(WordPieceFiles files)
      : text_(files.text),
        library_files_(files.library_files),
        most_characters_(files.most_characters),
        joins_marks_(files.joins_marks) {
    if (most_characters_ < 1 || most_characters_ > kMostCharacters)
      files.refuse("a word of {} characters is to be the longest; 1 to {} are read", most_characters_, kMostCharacters);
    place_tokens(files);
    place_added(files);
    unknown_ = id_of(files, files.unknown, "unknown");
    begins_ = files.begins.empty() ? -1 : id_of(files, files.begins, "first");
    closes_ = files.ends.empty() ? -1 : id_of(files, files.ends, "last");
    mask_ = files.mask.empty() ? -1 : id_of(files, files.mask, "mask");
    if (begins_ >= 0) texts_[size_t(begins_)] = files.begins;
    for (const std::string& name : {files.begins, files.ends}) check_unspoken(files, name);
    identify(files.path, canonical(files));
    say_losses();
    names_.clear();
  }

  const char* type() const override { return "wordpiece"; }
  int64_t vocab_size() const override { return int64_t(texts_.size()); }
  int32_t end_of_text() const override { return begins_; }
  int32_t ends_text() const override { return closes_ >= 0 ? closes_ : begins_; }
  int32_t closes_text() const override { return closes_; }
  std::optional<int32_t> mask_token() const override { return mask_ < 0 ? std::nullopt : std::optional(mask_); }
  bool adds_blank() const override { return true; }
  bool has_library_files() const override { return library_files_; }
  int32_t unknown() const override { return unknown_; }
  std::string_view loses() const override { return loses_; }
  std::string_view token_bytes(int32_t token) const override { return texts_[size_t(token)]; }

  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    WordCache& cache = word_cache(owner_);
    const auto encode_new = [this](std::string_view word, std::vector<int32_t>& out) { encode_word(word, out); };
    const auto encode_part = [&](std::string_view part) {
      divide_bert_words(part, [&](std::string_view word) { cache.append(word, tokens, encode_new); });
    };
    added_.divide(text, normalizer(), encode_part, [&](int32_t token) { tokens.push_back(token); });
  }

 private:
  AddedTokenLayers::Normalizer normalizer() const {
    return [this](std::string_view text, std::string& copy) { return text_.normalized(text, copy); };
  }

  void place(const WordPieceFiles& files, const std::string& name, int64_t id) {
    if (name.empty()) files.refuse("the token {} is empty", id);
    if (id < 0 || id >= int64_t(texts_.size()))
      files.refuse("the token \"{}\" has the id {}, but there are {} tokens", shown(name), id, texts_.size());
    if (!texts_[size_t(id)].empty()) files.refuse("the id {} is taken twice, again by \"{}\"", id, shown(name));
    const auto [earlier, is_new] = names_.emplace(name, int32_t(id));
    if (!is_new) files.refuse("the token \"{}\" is there twice, as {} and {}", shown(name), earlier->second, id);
    texts_[size_t(id)] = text_of(files, name);
  }

  // As the library's decoder has it: a blank before each word.
  std::string text_of(const WordPieceFiles& files, const std::string& name) const {
    if (name.size() > files.prefix.size() && name.starts_with(files.prefix)) return name.substr(files.prefix.size());
    static constexpr std::string_view kJoined[] = {".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"};
    const bool joined = joins_marks_ && std::any_of(std::begin(kJoined), std::end(kJoined),
                                                    [&](std::string_view mark) { return name.starts_with(mark); });
    return joined ? name : ' ' + name;
  }

  void place_tokens(const WordPieceFiles& files) {
    const int64_t count = int64_t(files.tokens.size());
    if (count == 0) files.refuse("it has no tokens");
    if (count > kMostTokens) files.refuse("it has {} tokens; the most is {}", count, kMostTokens);
    int64_t size = count;  // with gaps, as a pruned vocabulary has some
    for (const auto& [name, id] : files.tokens)
      if (id < 8 * count + 65536) size = std::max(size, id + 1);
    texts_.resize(size_t(size));
    for (const auto& [name, id] : files.tokens) {
      place(files, name, id);
      begin_.add(name, int32_t(id));
      if (name.size() > files.prefix.size() && name.starts_with(files.prefix))
        go_on_.add(name.substr(files.prefix.size()), int32_t(id));
    }
    begin_.sort();
    go_on_.sort();
  }

  // The library numbers what is added behind the model's tokens, whatever the file says.
  void place_added(const WordPieceFiles& files) {
    std::vector<AddedToken> placed;
    int64_t next = int64_t(files.tokens.size());
    for (const auto& [token, id] : files.added) {
      if (token.text.empty()) files.refuse("an added token is empty");
      const auto own = names_.find(token.text);
      if (own != names_.end() && own->second != id)
        files.refuse("the added token \"{}\" has the id {}, but {} in the vocabulary", shown(token.text), id,
                     own->second);
      if (own == names_.end()) {
        if (id != next)
          files.refuse("the added token \"{}\" has the id {}, but as the library tokenizers numbers them it is {}",
                       shown(token.text), id, next);
        texts_.resize(std::max(texts_.size(), size_t(id) + 1));
        place(files, token.text, id);
      }
      std::string copy;  // is decoded as it is found
      if (token.normalized) texts_[size_t(id)] = text_of(files, std::string(text_.normalized(token.text, copy)));
      next = std::max(next, id + 1);
      placed.push_back(token);
      placed.back().id = int32_t(id);
    }
    if (!added_.assign(std::move(placed), normalizer()))
      files.refuse("of the text of an added token nothing is left when it is normalized");
  }

  int32_t id_of(const WordPieceFiles& files, const std::string& name, const char* role) const {
    const auto found = names_.find(name);
    if (found == names_.end()) files.refuse("it has no token \"{}\", which is to be its {} token", shown(name), role);
    return found->second;
  }

  // BERT's names have punctuation, at which words end; those of other files may not.
  void check_unspoken(const WordPieceFiles& files, const std::string& name) const {
    if (name.empty()) return;
    std::vector<int32_t> tokens;
    encode(name, tokens);
    if (std::find(tokens.begin(), tokens.end(), names_.at(name)) != tokens.end())
      files.refuse("its token \"{}\" is special, but would be found in a text as well", shown(name));
  }

  // The same for all kinds of files.
  std::string canonical(const WordPieceFiles& files) const {
    std::vector<std::string_view> ordered(texts_.size());
    for (const auto& [name, id] : names_) ordered[size_t(id)] = name;
    std::string text =
        fmt::format("{} {} {} {} {} \"{}\" {} {} {} {}\n", text_.clean, text_.space_chinese, text_.strip_accents,
                    text_.lowercase, most_characters_, files.prefix, unknown_, begins_, closes_, mask_);
    for (const std::string_view name : ordered) (text += name) += '\n';
    for (const auto& [token, id] : files.added) {
      if (token.special) continue;
      text += fmt::format("{} {} {} {} {}\n", id, token.lstrip, token.rstrip, token.single_word, token.normalized);
    }
    return text;
  }

  void say_losses() {
    loses_ = text_.lowercase ? "case, " : "";
    loses_ += text_.strip_accents ? "accents, " : "";
    loses_ += "blanks and control characters";
  }

  void encode_word(std::string_view word, std::vector<int32_t>& tokens) const {
    const auto begins = [](char byte) { return !is_utf8_continuation(byte); };
    if (std::count_if(word.begin(), word.end(), begins) > most_characters_) return tokens.push_back(unknown_);
    const size_t before = tokens.size();
    for (const LongestFirst* list = &begin_; !word.empty(); list = &go_on_) {
      size_t length = 0;
      const int32_t token = list->take(word, length);
      if (token < 0) {
        tokens.resize(before);
        return tokens.push_back(unknown_);
      }
      tokens.push_back(token);
      word.remove_prefix(length);
    }
  }

  BertText text_;
  bool library_files_;
  int64_t most_characters_;
  bool joins_marks_;
  std::vector<std::string> texts_;  // [vocabulary], of tokens as they are decoded; empty for ids that no token has
  LongestFirst begin_, go_on_;      // tokens that a word begins with, and that it goes on with
  AddedTokenLayers added_;
  std::unordered_map<std::string, int32_t> names_;  // until the constructor ends
  int32_t unknown_ = -1, begins_ = -1, closes_ = -1, mask_ = -1;
  std::string loses_;
  uint64_t owner_ = next_cache_owner();
};

}  // namespace

std::unique_ptr<Tokenizer> make_wordpiece_tokenizer(WordPieceFiles files) {
  return std::make_unique<WordPieceTokenizer>(std::move(files));
}

}  // namespace sluice
