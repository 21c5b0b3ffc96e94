// Documents in batches, encoded side by side, written in order, aside until all are whole (encode_corpus.h).
#include "data/corpus/encode_corpus.h"

#include <algorithm>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/files/aside.h"
#include "base/files/files.h"
#include "data/shards/shard_format.h"
#include "data/shards/shard_naming.h"
#include "data/text/text_file.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kBatchBytes = 8 << 20;

bool all_digits(std::string_view text) { return !text.empty() && text.find_first_not_of("0123456789") == text.npos; }

// Tokens that each document has beside those of its text.
int64_t marks_of(const Tokenizer& tokenizer) {
  return int64_t(tokenizer.end_of_text() >= 0) + int64_t(tokenizer.closes_text() >= 0);
}

// The shards of one corpus, in a folder aside until all are written.
class ShardRow {
 public:
  ShardRow(const ShardOptions& options, const Tokenizer& tokenizer) : options_(options), tokenizer_(tokenizer) {
    token_bytes_ = options.width == 0 ? (tokenizer.vocab_size() <= 65536 ? 2 : 4) : options.width / 8;
    if (token_bytes_ == 2 && tokenizer.vocab_size() > 65536) {
      throw UserError("--width 16 holds token ids below 65536, but {} has {} tokens; take --width 32", tokenizer.name(),
                      tokenizer.vocab_size());
    }
    std::error_code none;  // a folder on the way whose name is too long is told when it is made
    const bool folder = options.out.empty() || options.out.back() == '/' || fs::is_directory(options.out, none);
    stem_ = folder ? (fs::path(options.out) / "tokens").string() : options.out;
    constexpr size_t kMostName =
        180;  // bytes; leaves room for what is added, also while the shards wait for their names
    const std::string name = fs::path(stem_).filename().string();
    if (name.size() > kMostName) {
      throw UserError("--out {:.40}...: the name has {} bytes, more than the limit of {}", name, name.size(),
                      kMostName);
    }
    const fs::path parent = fs::path(stem_).parent_path();
    if (!parent.empty()) create_folders(parent);
    finished_before_ = finish_naming(stem_);
    remove_leftovers(parent.empty() ? fs::path(".") : parent, fs::path(stem_).filename().string());
  }

  // Unfinished shards are of no use.
  ~ShardRow() {
    writer_.reset();
    if (!folder_.empty()) remove_quietly(folder_);  // named, it is not there any more
  }

  // The note of a corpus that only lacked its names when its command was killed; null without one.
  const Json& finished_before() const { return finished_before_; }

  void begin() {
    const fs::path parent = fs::path(stem_).parent_path();
    refuse_older(parent.empty() ? fs::path(".") : parent);
    folder_ = create_folder_aside(stem_);
  }

  void append(std::span<const int32_t> tokens) {
    const int64_t length = int64_t(tokens.size()) + marks_of(tokenizer_);
    if (writer_ && writer_->tokens() + length > options_.shard_tokens) finish_shard();
    if (!writer_) {
      writer_.emplace(unnamed_shard(folder_, shards_), token_bytes_, tokenizer_.vocab_size(), tokenizer_.name(),
                      tokenizer_.hash());
    }
    writer_->begin_document();
    const int32_t opens = tokenizer_.end_of_text(), closes = tokenizer_.closes_text();
    if (opens >= 0) writer_->append({&opens, 1});
    writer_->append(tokens);
    if (closes >= 0) writer_->append({&closes, 1});
  }

  std::vector<std::string> finish(const Json& note) {
    if (writer_) finish_shard();
    return name_shards(folder_, stem_, shards_, note);
  }

  std::vector<std::string> names(size_t count) const {
    std::vector<std::string> out;
    for (size_t i = 0; i < count; ++i) out.push_back(shard_name(stem_, i));
    return out;
  }

 private:
  void finish_shard() {
    writer_->finish();
    writer_.reset();
    ++shards_;
  }

  // Shards of an earlier corpus with the same name would be taken for part of this one.
  void refuse_older(const fs::path& folder) const {
    const std::string stem = fs::path(stem_).filename().string() + "_";
    std::error_code error;
    const fs::directory_iterator entries(folder, error);
    if (error)
      throw UserError("--out {}: cannot read the folder {}: {}", options_.out, folder.string(), error.message());
    for (const auto& entry : entries) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with(stem) || !name.ends_with(".bin") || name.size() < stem.size() + 4) continue;
      if (all_digits(std::string_view(name).substr(stem.size(), name.size() - stem.size() - 4))) {
        throw UserError("--out {}: {} is there already; remove it or choose another name", options_.out,
                        entry.path().string());
      }
    }
  }

  ShardOptions options_;
  const Tokenizer& tokenizer_;
  std::string stem_;
  fs::path folder_;
  Json finished_before_;
  int64_t token_bytes_ = 2;
  std::optional<ShardWriter> writer_;
  size_t shards_ = 0;
};

// Documents that are encoded side by side.
struct Batch {
  std::vector<std::string> texts;
  std::vector<DocumentReader::Place> places;
  uint64_t bytes = 0;

  // False when the last document is taken.
  bool fill(DocumentReader& reader) {
    for (std::string document; bytes < kBatchBytes;) {
      if (!reader.next(document)) return false;
      bytes += document.size();
      texts.push_back(std::move(document));
      places.push_back(reader.place());
    }
    return true;
  }
};

// The first error of the first text that has one is thrown, with the text's place.
std::vector<std::vector<int32_t>> encode_all(const Batch& batch, const DocumentReader& reader,
                                             const Tokenizer& tokenizer) {
  std::vector<std::vector<int32_t>> tokens(batch.texts.size());
  std::vector<std::exception_ptr> errors(batch.texts.size());
#pragma omp parallel for schedule(dynamic)
  for (size_t i = 0; i < batch.texts.size(); ++i) {
    try {
      tokens[i].reserve(batch.texts[i].size() / 3);
      tokenizer.encode(batch.texts[i], tokens[i]);
    } catch (const UserError& error) {
      errors[i] = std::make_exception_ptr(UserError("{}: {}", reader.text_of(batch.places[i]), error.what()));
    } catch (...) {
      errors[i] = std::current_exception();
    }
  }
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return tokens;
}

// What the corpus is made of and how; nullopt where that cannot be told before it is read, as of the standard input.
std::optional<std::string> identity_of(const std::vector<std::string>& inputs, const Tokenizer& tokenizer,
                                       const ShardOptions& options) {
  std::string all = fmt::format("{}\n{}\n{}\n", options.command, fs::current_path().string(), tokenizer.hash());
  for (const std::string& path : find_text_files(inputs)) {
    std::error_code error;
    if (!fs::is_regular_file(path, error)) return std::nullopt;
    all += fmt::format("{}\n{} {}\n", path, fs::file_size(path), fs::last_write_time(path).time_since_epoch().count());
  }
  return checksum_text(checksum_of(all));
}

Json note_of(const EncodedCorpus& corpus, const std::optional<std::string>& identity) {
  const TextReport& report = corpus.report;
  return {{"identity", identity ? Json(*identity) : Json()},
          {"documents", corpus.documents},
          {"tokens", corpus.tokens},
          {"text_bytes", corpus.text_bytes},
          {"unknown", corpus.unknown},
          {"first_unknown", corpus.first_unknown},
          {"replaced", report.replaced},
          {"empty", report.empty},
          {"bad", report.bad},
          {"first_bad", report.first_bad},
          {"json_files", report.json_files},
          {"json_by_content", report.json_by_content},
          {"first_by_content", report.first_by_content}};
}

TextReport report_of(const Json& note) {
  TextReport report{};
  report.replaced = note.value("replaced", uint64_t{0});
  report.empty = note.value("empty", uint64_t{0});
  report.bad = note.value("bad", report.bad);
  report.first_bad = note.value("first_bad", "");
  report.json_files = note.value("json_files", uint64_t{0});
  report.json_by_content = note.value("json_by_content", uint64_t{0});
  report.first_by_content = note.value("first_by_content", "");
  return report;
}

EncodedCorpus corpus_of(const Json& note, const ShardRow& shards) {
  EncodedCorpus corpus;
  corpus.documents = note.value("documents", int64_t{0});
  corpus.tokens = note.value("tokens", int64_t{0});
  corpus.text_bytes = note.value("text_bytes", uint64_t{0});
  corpus.unknown = note.value("unknown", int64_t{0});
  corpus.first_unknown = note.value("first_unknown", "");
  corpus.report = report_of(note);
  corpus.shards = shards.names(note.value("shards", size_t{0}));
  corpus.only_named = true;
  return corpus;
}

// What is read now cannot be compared with what an earlier command had read, whose work is not to be thrown away.
[[noreturn]] void refuse_second(const Json& before, const ShardRow& shards, const ShardOptions& options) {
  const std::vector<std::string> names = shards.names(before.value("shards", size_t{0}));
  throw UserError(
      "--out {}: an earlier command was killed when it had encoded a corpus of that name, which is complete now "
      "({}); nothing was encoded now, and for another corpus choose another name",
      options.out, names.size() < 2 ? fmt::format("{}", fmt::join(names, "")) : names.front() + " to " + names.back());
}

}  // namespace

EncodedCorpus encode_corpus(const std::vector<std::string>& inputs, const TextOptions& text, const Tokenizer& tokenizer,
                            const ShardOptions& options, const TextProgress& progress) {
  DocumentReader reader(inputs, text);
  ShardRow shards(options, tokenizer);
  const std::optional<std::string> identity = identity_of(inputs, tokenizer, options);
  const Json& before = shards.finished_before();
  if (identity && !before.is_null() && before.value("identity", Json()) == *identity) return corpus_of(before, shards);
  if (!identity && !before.is_null()) refuse_second(before, shards, options);
  shards.begin();
  EncodedCorpus corpus;
  for (bool more = true; more;) {
    Batch batch;
    more = batch.fill(reader);
    corpus.text_bytes += batch.bytes;
    corpus.documents += int64_t(batch.texts.size());
    const auto encoded = encode_all(batch, reader, tokenizer);
    for (size_t i = 0; i < encoded.size(); ++i) {
      shards.append(encoded[i]);
      corpus.tokens += int64_t(encoded[i].size()) + marks_of(tokenizer);
      const int64_t unknown = std::count(encoded[i].begin(), encoded[i].end(), tokenizer.unknown());
      if (unknown > 0 && corpus.unknown == 0) corpus.first_unknown = reader.text_of(batch.places[i]);
      corpus.unknown += unknown;
    }
    progress(reader);
  }
  corpus.report = reader.report();
  if (corpus.documents == 0) throw_no_text(corpus.report);
  corpus.shards = shards.finish(note_of(corpus, identity));
  return corpus;
}

}  // namespace sluice
