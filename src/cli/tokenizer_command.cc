// sluice tokenizer train INPUT... --out FILE [--type T] [--vocab N]
// sluice tokenizer encode INPUT... --tokenizer T --out DIR|PREFIX | --print
// sluice tokenizer decode SHARD...|- --tokenizer T
//
// Progress goes to standard error, results to standard output.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>

#include "base/error.h"
#include "base/files/files.h"
#include "base/stopwatch.h"
#include "base/utf8.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/output.h"
#include "cli/text_options.h"
#include "data/corpus/encode_corpus.h"
#include "data/corpus/shard_text.h"
#include "train/progress.h"

namespace sluice {
namespace {

// ---- train ----------------------------------------------------------------------------------------------------------

struct TrainArguments {
  TextArguments text;
  TokenizerTraining training;
  std::string out;
  double sample_mb = 100;
};

// What could only fail when hours of reading and learning are done, or would not be read back.
void check_out(const TrainArguments& args) {
  const std::filesystem::path out(args.out), folder = out.parent_path();
  if (!out.has_filename()) throw UserError("--out {} is a folder's name; name a file", args.out);
  const bool json = out.extension() == ".json", characters = args.training.type == "characters";
  if (json != characters || args.out == "bytes") {
    throw UserError("--out {}: a {} tokenizer's file is called NAME.{}", args.out, args.training.type,
                    characters ? "json" : "model");
  }
  std::error_code none;  // a name that is too long is told when it is written to
  if (std::filesystem::is_regular_file(out, none))
    throw UserError("--out {} is there already; remove it or choose another name", args.out);
  if (std::filesystem::is_directory(out, none)) throw UserError("--out {} is a folder; name a file", args.out);
  if (!folder.empty()) create_folders(folder);
  check_output_file("--out", out);
}

void run_train(TrainArguments args) {
  check_out(args);
  const Stopwatch watch;
  args.training.sample_bytes = uint64_t(args.sample_mb * 1e6);
  ReadingLine line;
  TrainedTokenizer trained = train_tokenizer(args.text.inputs, args.text.resolved(), args.training,
                                             [&](const DocumentReader& reader) { line.show(reader); });
  line.end();
  print_text_notes(trained.report, args.text);
  write_file_atomic(args.out, trained.file);
  const auto tokenizer = load_tokenizer(args.out, "--out");
  print_line("{}: {}, learned from {} of text{} in {}", args.out, tokenizer->name(), bytes_text(trained.sample_bytes),
             trained.whole_text ? "" : " (a sample, see --sample-mb)", duration_text(watch.seconds()));
}

void add_train(CLI::App& app) {
  CLI::App* command = app.add_subcommand("train", "make a tokenizer from text");
  auto args = std::make_shared<TrainArguments>();
  add_text_options(*command, args->text, true);
  command->add_option("--out", args->out, "the file to write: NAME.model, or NAME.json for characters")->required();
  command->add_option("--type", args->training.type, "bpe or unigram (sentencepiece), or characters")
      ->capture_default_str()
      ->check(CLI::IsMember({"bpe", "unigram", "characters"}));
  command->add_option("--vocab", args->training.vocab_size, "tokens in the vocabulary")
      ->capture_default_str()
      ->check(between(int64_t{259}, int64_t{1} << 20));
  command->add_option("--sample-mb", args->sample_mb, "learn from a sample of this many megabytes")
      ->capture_default_str()
      ->check(between(0.001, 100000.0));
  command
      ->add_option("--coverage", args->training.coverage,
                   "the share of the text's characters that get a token of their own; rarer ones are spelled in bytes")
      ->capture_default_str()
      ->check(between(0.98, 1.0));
  command->add_option("--seed", args->training.seed, "of the sample")->check(any_seed())->capture_default_str();
  command->callback([args] { run_train(*args); });
}

// ---- encode ---------------------------------------------------------------------------------------------------------

struct EncodeArguments {
  TextArguments text;
  ShardOptions shards;
  std::string tokenizer;
  bool print = false;
};

void print_tokens(const EncodeArguments& args, const Tokenizer& tokenizer) {
  TextOptions options = args.text.resolved();
  options.keep_empty = true;  // so that lines and documents go in step
  DocumentReader reader(args.text.inputs, options);
  std::vector<int32_t> tokens;
  int64_t unknown = 0;
  std::string first_unknown;
  for (std::string document; reader.next(document); tokens.clear()) {
    tokenizer.encode(document, tokens);
    const int64_t here = std::count(tokens.begin(), tokens.end(), tokenizer.unknown());
    if (here > 0 && unknown == 0) first_unknown = reader.text_of(reader.place());
    unknown += here;
    print_out("{}\n", fmt::join(tokens, " "));
  }
  print_text_notes(reader.report(), args.text);
  print_unknown(unknown, tokenizer, first_unknown);
}

void run_encode(const EncodeArguments& args) {
  const auto tokenizer = load_tokenizer(args.tokenizer, "--tokenizer");
  if (args.print == !args.shards.out.empty())
    throw UserError("sluice tokenizer encode needs --out or --print, and not both");
  if (args.print) return print_tokens(args, *tokenizer);
  const Stopwatch watch;
  ReadingLine line;
  ShardOptions shards = args.shards;
  shards.command = read_file("/proc/self/cmdline");
  const EncodedCorpus corpus = encode_corpus(args.text.inputs, args.text.resolved(), *tokenizer, shards,
                                             [&](const DocumentReader& reader) { line.show(reader); });
  line.end();
  const double seconds = watch.seconds();
  if (corpus.only_named)
    tell("note: an earlier command was killed when the shards were written; they only lacked their names");
  print_text_notes(corpus.report, args.text);
  print_unknown(corpus.unknown, *tokenizer, corpus.first_unknown);
  print_out("{} documents, {} of text, {} tokens ({:.3f} bytes a token) in {:.1f}s ({}/s)\n", corpus.documents,
            bytes_text(corpus.text_bytes), corpus.tokens, double(corpus.text_bytes) / double(corpus.tokens), seconds,
            bytes_text(uint64_t(double(corpus.text_bytes) / seconds)));
  for (const std::string& shard : corpus.shards) print_line("{}", shard);
}

void add_encode(CLI::App& app) {
  CLI::App* command = app.add_subcommand("encode", "text to token shards");
  auto args = std::make_shared<EncodeArguments>();
  add_text_options(*command, args->text, true);
  command->add_option("--tokenizer", args->tokenizer, "a tokenizer's file or folder, or bytes")->required();
  command->add_option("--out", args->shards.out, "a folder, or the beginning of the shards' paths: OUT_00000.bin ...");
  command->add_flag("--print", args->print, "print the token ids instead, a line for each document");
  command->add_option("--width", args->shards.width, "bits of a token; by default 16 where the vocabulary allows it")
      ->check(CLI::IsMember({16, 32}));
  command
      ->add_option("--shard-tokens", args->shards.shard_tokens, "tokens in a shard, at most; a document is not divided")
      ->capture_default_str()
      ->check(between(int64_t{1}, int64_t{1} << 40));
  command->callback([args] { run_encode(*args); });
}

// ---- decode ---------------------------------------------------------------------------------------------------------

struct DecodeArguments {
  std::vector<std::string> shards;
  std::string tokenizer, separator, shard_format = "auto";
};

// Ids in text on the standard input; a line's text for each line.
void decode_ids(const Tokenizer& tokenizer) {
  for (std::string line; std::getline(std::cin, line);) {
    line = without_byte_order_mark(line);
    std::vector<int32_t> tokens;
    for (const std::string& word : CLI::detail::split_up(line)) {
      int32_t token = 0;
      if (!CLI::detail::lexical_cast(word, token)) throw UserError("\"{}\" is no token id", word);
      tokens.push_back(token);
    }
    print_text(tokenizer.decode(tokens) + "\n");
  }
  if (std::ferror(stdin) != 0) throw RunError("cannot read the standard input: {}", std::strerror(errno));
}

void run_decode(const DecodeArguments& args) {
  const auto tokenizer = load_tokenizer(args.tokenizer, "--tokenizer");
  print_losses(*tokenizer, "this is not the text that was encoded");
  for (const std::string& path : args.shards) {
    if (path == kStandardInput) decode_ids(*tokenizer);
    else decode_shard(path, *tokenizer, args.separator, print_text, plain_tokens(args.shard_format));
  }
}

void add_decode(CLI::App& app) {
  CLI::App* command = app.add_subcommand("decode", "token shards, or ids on the standard input, to text");
  auto args = std::make_shared<DecodeArguments>();
  command->add_option("shards", args->shards, "shards; - for ids, a line for each text")->required();
  command->add_option("--tokenizer", args->tokenizer, "the tokenizer they were made with")->required();
  command->add_option("--separator", args->separator,
                      "a line to end each document with, instead of end-of-text tokens");
  command
      ->add_option("--shard-format", args->shard_format,
                   "auto: headers tell; uint16, uint32: files without a header are tokens of this width")
      ->check(CLI::IsMember(kShardFormatNames));
  command->callback([args] { run_decode(*args); });
}

}  // namespace

void add_tokenizer_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("tokenizer", "make tokenizers; text to token shards and back");
  command->require_subcommand(1);
  add_train(*command);
  add_encode(*command);
  add_decode(*command);
}

}  // namespace sluice
