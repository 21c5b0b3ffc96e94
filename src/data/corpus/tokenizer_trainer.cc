// The sentencepiece options keep text as it is: identity normalisation, no blank before the
// text, bytes for what has no piece of its own; runs of blanks may be pieces, digits stand alone.
#include "data/corpus/tokenizer_trainer.h"

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <bitset>
#include <charconv>
#include <memory>
#include <string_view>
#include <unordered_map>

#include "base/error.h"
#include "base/utf8.h"
#include "data/corpus/text_sample.h"
#include "data/tokenizers/tokenizer.h"

namespace sluice {
namespace {

constexpr uint64_t kProgressBytes = 8 << 20;

// The different words of the sample with how often each occurs, as the trainer reads them: "word TAB count". A word is
// a run of blanks and what follows it up to the next one, so that no piece continues over a blank or a line's end. Tabs
// divide words too, for the trainer knows no piece with one.
class Words final : public sentencepiece::SentenceIterator {
 public:
  explicit Words(const std::vector<std::string>& lines) {
    std::unordered_map<std::string_view, int64_t> counts;
    for (const std::string& line : lines) count(line, counts);
    for (const auto& [word, times] : counts) entries_.push_back(fmt::format("{}\t{}", word, times));
    std::sort(entries_.begin(), entries_.end());
  }
  bool done() const override { return next_ >= entries_.size(); }
  void Next() override { std::string().swap(entries_[next_++]); }  // the trainer has its own copy
  const std::string& value() const override { return entries_[next_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  static void count(std::string_view line, std::unordered_map<std::string_view, int64_t>& counts) {
    for (size_t begin = 0, end = 0; begin < line.size(); begin = end) {
      end = line.find_first_not_of(' ', begin);
      end = std::min(line.find_first_of(" \t", std::min(end, line.size())), line.size());
      if (end > begin) ++counts[line.substr(begin, end - begin)];
      while (end < line.size() && line[end] == '\t') ++end;
    }
  }

  std::vector<std::string> entries_;
  size_t next_ = 0;
};

template <class Add>
TextReport read_all(const std::vector<std::string>& inputs, TextOptions text, const TextProgress& progress, Add&& add) {
  text.split_bytes = 4 << 20;  // where a document ends is of no matter here
  DocumentReader reader(inputs, std::move(text));
  uint64_t shown = 0;
  bool any = false;
  for (std::string document; reader.next(document);) {
    any = true;
    add(document);
    if (reader.bytes_taken() - shown < kProgressBytes) continue;
    shown = reader.bytes_taken();
    progress(reader);
  }
  progress(reader);
  if (!any) throw_no_text(reader.report());
  return reader.report();
}

// The number of threads belongs to the result: each sums up its own share.
constexpr const char* kTrainerThreads = "16";

// The number behind `words`, or -1.
int64_t number_behind(const std::string& text, std::string_view words) {
  const size_t at = text.find(words);
  int64_t number = -1;
  if (at != text.npos) std::from_chars(text.data() + at + words.size(), text.data() + text.size(), number);
  return number;
}

// In our options' terms what the library says in its own: "file(line) [condition] Words for people".
std::string training_fault(const std::string& reason, const TokenizerTraining& options) {
  const int64_t most = number_behind(reason, "Please set it to a value <= "), least = number_behind(reason, " vs ");
  if (reason.find("too high") != reason.npos && most > 0) {
    return fmt::format("it has pieces for --vocab <= {} only; lower --vocab, or give more text", most);
  }
  if (reason.find("required_chars") != reason.npos && least > 0) {
    return fmt::format(
        "its characters need --vocab >= {}; raise --vocab, or lower --coverage ({}), the share of the text's "
        "characters that get a token of their own",
        least, options.coverage);
  }
  if (reason.find("sentences_.empty()") != reason.npos) return "it has no word";
  const size_t words = reason.find("] ");
  return words == reason.npos || words + 2 == reason.size() ? reason : reason.substr(words + 2);
}

std::string train_sentencepiece(Words words, const TokenizerTraining& options) {
  const std::unordered_map<std::string, std::string> settings = {
      {"model_type", options.type},
      {"vocab_size", std::to_string(options.vocab_size)},
      {"input_format", "tsv"},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"byte_fallback", "true"},
      {"split_digits", "true"},
      {"allow_whitespace_only_pieces", "true"},
      {"character_coverage", fmt::format("{}", options.coverage)},
      {"unk_id", "0"},
      {"eos_id", "1"},
      {"eos_piece", std::string(kEndOfText)},
      {"bos_id", "-1"},
      {"pad_id", "-1"},
      {"max_sentence_length", std::to_string(2 * TextSample::kLongestLine)},
      {"num_threads", kTrainerThreads},
      {"minloglevel", "2"},
  };
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(settings, &words, &model);
  if (!status.ok()) {
    throw UserError("a {} vocabulary of {} tokens cannot be learned from this text: {}", options.type,
                    options.vocab_size, training_fault(status.message(), options));
  }
  return model;
}

TrainedTokenizer train_characters(const std::vector<std::string>& inputs, TextOptions text,
                                  const TextProgress& progress) {
  const auto seen = std::make_unique<std::bitset<0x110000>>();
  TrainedTokenizer trained;
  trained.report = read_all(inputs, std::move(text), progress, [&](std::string_view document) {
    trained.sample_bytes += document.size();
    while (!document.empty()) seen->set(take_character(document));
  });
  std::u32string characters;
  for (size_t character = 0; character < seen->size(); ++character) {
    if (seen->test(character)) characters += char32_t(character);
  }
  trained.file = characters_json(std::move(characters));
  return trained;
}

}  // namespace

TrainedTokenizer train_tokenizer(const std::vector<std::string>& inputs, TextOptions text,
                                 const TokenizerTraining& options, const TextProgress& progress) {
  if (options.type == "characters") return train_characters(inputs, std::move(text), progress);
  TextSample sample(options.sample_bytes, options.seed);
  TextReport report =
      read_all(inputs, std::move(text), progress, [&](std::string_view document) { sample.add_document(document); });
  if (sample.bytes() == 0) throw UserError("the sample of the text is empty; raise --sample-mb");
  TrainedTokenizer trained{"", sample.bytes(), sample.whole(), std::move(report)};
  trained.file = train_sentencepiece(Words(sample.take()), options);
  return trained;
}

}  // namespace sluice
