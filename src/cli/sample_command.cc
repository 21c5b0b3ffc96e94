// sluice sample RUN|CHECKPOINT [--prompt TEXT | --prompt-file FILE] [--tokens N] [--temperature T] [--top-k K]
//                              [--top-p P] [--seed S] [--count N] [--tokenizer T]
//
// The text goes to standard output as it is written, notes and the speed to standard error. The first sample of a batch
// streams, the others follow whole.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "base/error.h"
#include "base/files/files.h"
#include "base/files/input_file.h"
#include "base/limits.h"
#include "base/stopwatch.h"
#include "base/utf8.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/output.h"
#include "cli/text_options.h"
#include "data/sources/bigram_statistics.h"
#include "kernels/device/device.h"
#include "model/decoder.h"
#include "model/sampler.h"
#include "runs/load_model.h"
#include "runs/model_tokenizer.h"

namespace sluice {
namespace {

constexpr int64_t kBatch = 8;  // samples written at the same time

struct SampleArguments {
  std::string path, prompt, prompt_file, tokenizer, device = "auto";
  SamplingOptions sampling;
  int64_t tokens = 256, count = 1;
};

// ---- text and tokens -----------------------------------------------------------------------------------------------

class TextModel {
 public:
  virtual ~TextModel() = default;
  virtual std::vector<int32_t> encode(const std::string& text) const = 0;
  virtual std::string_view bytes(int32_t token) const = 0;
  virtual int32_t start() const = 0;  // stands before a text; -1: nothing does
  virtual bool ends(int32_t token) const = 0;
  virtual bool has_first_token() const = 0;  // whether start() stood in each window that the model was trained on
};

class TokenizedText final : public TextModel {
 public:
  // `first_token` is what the model was trained to see first, -1: nothing but what starts a document.
  TokenizedText(std::unique_ptr<Tokenizer> tokenizer, int64_t first_token)
      : tokenizer_(std::move(tokenizer)),
        start_(first_token >= 0 ? int32_t(first_token) : tokenizer_->end_of_text()),
        has_first_token_(first_token >= 0) {}
  std::vector<int32_t> encode(const std::string& text) const override {
    std::vector<int32_t> tokens;
    tokenizer_->encode(text, tokens);
    print_unknown(std::count(tokens.begin(), tokens.end(), tokenizer_->unknown()), *tokenizer_, "the prompt");
    return tokens;
  }
  // A model may have more tokens than its tokenizer, for whole multiples; it has no reason to write them.
  std::string_view bytes(int32_t token) const override {
    return token < tokenizer_->vocab_size() ? tokenizer_->token_bytes(token) : kReplacementCharacter;
  }
  int32_t start() const override { return start_; }
  bool ends(int32_t token) const override {
    return token == tokenizer_->ends_text() || token == tokenizer_->end_of_text();
  }
  bool has_first_token() const override { return has_first_token_; }

 private:
  std::unique_ptr<Tokenizer> tokenizer_;
  int32_t start_;
  bool has_first_token_;
};

// The characters of the Bigram-Backcopy task; a sequence starts with BOS and has no end.
class BigramText final : public TextModel {
 public:
  explicit BigramText(const std::string& statistics_file)
      : characters_((statistics_file.empty() ? tiny_shakespeare_statistics() : count_bigrams_of_file(statistics_file))
                        .characters) {}
  std::vector<int32_t> encode(const std::string& text) const override {
    std::vector<int32_t> tokens;
    for (const char character : text) {
      const size_t token = characters_.find(character);
      if (token == std::string::npos)
        throw UserError("--prompt: the byte 0x{:02x} is none of the {} characters that the model was trained on",
                        static_cast<unsigned char>(character), characters_.size());
      tokens.push_back(int32_t(token));
    }
    return tokens;
  }
  std::string_view bytes(int32_t token) const override {
    return size_t(token) < characters_.size() ? std::string_view(characters_).substr(size_t(token), 1)
                                              : kReplacementCharacter;
  }
  int32_t start() const override { return int32_t(characters_.size()); }
  bool ends(int32_t) const override { return false; }
  bool has_first_token() const override { return true; }

 private:
  std::string characters_;
};

std::unique_ptr<TextModel> text_model(const LoadedModel& loaded, const std::string& tokenizer) {
  const DataConfig& data = loaded.experiment.data;
  if (tokenizer.empty() && data.type == "bigram_backcopy") return std::make_unique<BigramText>(data.statistics);
  return std::make_unique<TokenizedText>(tokenizer_of(loaded.checkpoint, loaded.experiment, tokenizer),
                                         data.first_token);
}

// ---- writing -------------------------------------------------------------------------------------------------------

// Bytes in, valid UTF-8 out: the bytes of a character come from several tokens, and wait for the last of them.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes) {
    held_ += bytes;
    return take(false);
  }
  std::string finish() { return take(true); }

 private:
  std::string take(bool all) {
    std::string out;
    while (!held_.empty()) {
      const Utf8Scan scan = scan_utf8(held_);
      out += held_.substr(0, scan.valid);
      const bool waits = scan.incomplete && !all;
      held_.erase(0, scan.valid);
      if (waits || held_.empty()) break;
      out += kReplacementCharacter;
      held_.erase(0, std::min(std::max<size_t>(scan.bad, 1), held_.size()));
    }
    return out;
  }
  std::string held_;
};

void print_now(const std::string& text) {
  print_text(text);
  finish_output();
}

// One text that is being written.
struct Sample {
  std::vector<int32_t> tokens;  // with the prompt's
  Utf8Stream stream;
  std::string text;  // not printed yet
  bool ended = false;
};

class Writer {
 public:
  Writer(const SampleArguments& args, const LoadedModel& loaded, const TextModel& text, std::string prompt)
      : args_(args),
        text_(text),
        prompt_(std::move(prompt)),
        model_(*loaded.model),
        context_(loaded.experiment.model.context),
        sampler_(args.sampling),
        prompt_tokens_(encoded_prompt()) {}

  void run() {
    Decoder decoder(model_, model_.max_batch());
    for (int64_t first = 0; first < args_.count; first += decoder.sequences()) write_batch(decoder, first);
    tell("{} tokens in {:.2f} s: {:.1f} tokens/s (and {} of prompts in {:.2f} s)", written_, step_seconds_,
         double(written_) / std::max(step_seconds_, 1e-9), prompted_, prompt_seconds_);
  }

 private:
  std::vector<int32_t> encoded_prompt() const {
    std::vector<int32_t> tokens = text_.encode(prompt_);
    if (text_.start() >= 0) tokens.insert(tokens.begin(), text_.start());
    if (tokens.empty())
      throw UserError("this tokenizer does not mark where a text starts: name a --prompt to start from");
    if (int64_t(tokens.size()) > context_)
      throw UserError("the prompt has {} tokens, more than the model's context of {} (model.context)", tokens.size(),
                      context_);
    return tokens;
  }

  // The last batch may have more sequences than are asked for: they are written and not shown.
  void write_batch(Decoder& decoder, int64_t first) {
    std::vector<Sample> samples(size_t(decoder.sequences()), Sample{prompt_tokens_, {}, prompt_, false});
    const size_t shown = size_t(std::min<int64_t>(decoder.sequences(), args_.count - first));
    print_head(first);
    Tensor logits = prefill(decoder, samples, prompt_tokens_.size());
    for (int64_t i = 0; i < args_.tokens; ++i) {
      const Stopwatch watch;
      choose(logits, samples, shown, first, i);
      print_now(std::exchange(samples.front().text, {}));
      const bool all_ended = std::all_of(samples.begin(), samples.begin() + std::ptrdiff_t(shown),
                                         [](const Sample& sample) { return sample.ended; });
      if (all_ended || i + 1 == args_.tokens) break;
      if (decoder.length() == context_) {
        logits = prefill(decoder, samples, size_t(std::max<int64_t>(1, context_ / 2)));
      } else {
        std::vector<int32_t> next;
        for (const Sample& sample : samples) next.push_back(sample.tokens.back());
        logits = decoder.step(next.data());
        model_.backend().synchronize();
        step_seconds_ += watch.seconds();
      }
    }
    for (size_t i = 0; i < shown; ++i) {
      if (i > 0) print_head(first + int64_t(i));
      print_now(samples[i].text + samples[i].stream.finish() + "\n");
    }
  }

  void print_head(int64_t index) const {
    if (args_.count > 1) print_now(fmt::format("--- sample {} of {} ---\n", index + 1, args_.count));
  }

  // The model reads the latest `count` tokens of every sample; behind the first token that it knows from every window.
  Tensor prefill(Decoder& decoder, const std::vector<Sample>& samples, size_t count) {
    const Stopwatch watch;
    if (samples.front().tokens.size() > size_t(context_) && !std::exchange(noted_, true)) {
      put_on_console(STDERR_FILENO, "\n");
      tell("note: the context of {} tokens is full; from here on the model goes on from the latest {}", context_,
           count);
    }
    std::vector<int32_t> tokens;
    for (const Sample& sample : samples) {
      tokens.insert(tokens.end(), sample.tokens.end() - std::ptrdiff_t(count), sample.tokens.end());
      if (text_.has_first_token() && count > 1) tokens[tokens.size() - count] = text_.start();
    }
    const Tensor logits = decoder.prefill(tokens.data(), int64_t(count));
    model_.backend().synchronize();
    prompt_seconds_ += watch.seconds();
    prompted_ += int64_t(tokens.size());
    return logits;
  }

  void choose(const Tensor& logits, std::vector<Sample>& samples, size_t shown, int64_t first, int64_t position) {
    const size_t V = size_t(logits.cols());
    host_logits_.resize(size_t(logits.elements()));
    model_.backend().download(host_logits_.data(), logits);
    for (size_t b = 0; b < samples.size(); ++b) {
      Sample& sample = samples[b];
      const std::span<const float> row(host_logits_.data() + b * V, V);
      const int32_t token = sampler_.choose(row, uint64_t(first) + b, uint64_t(position));
      sample.tokens.push_back(token);
      if (sample.ended || b >= shown) continue;
      ++written_;
      if (text_.ends(token)) sample.ended = true;
      else sample.text += sample.stream.push(text_.bytes(token));
    }
  }

  const SampleArguments& args_;
  const TextModel& text_;
  const std::string prompt_;
  Transformer& model_;
  const int64_t context_;
  Sampler sampler_;
  const std::vector<int32_t> prompt_tokens_;
  std::vector<float> host_logits_;
  bool noted_ = false;
  int64_t written_ = 0, prompted_ = 0;
  double step_seconds_ = 0, prompt_seconds_ = 0;
};

std::string prompt_of(const SampleArguments& args) {
  const std::string given =
      args.prompt_file.empty() ? args.prompt : read_file_or_pipe(args.prompt_file, kMostPromptBytes, "a prompt");
  const std::string text(without_byte_order_mark(given));
  const Utf8Scan scan = scan_utf8(text);
  if (scan.valid < text.size())
    throw UserError("{}: the byte at {} is no UTF-8", args.prompt_file.empty() ? "--prompt" : args.prompt_file,
                    scan.valid);
  return text;
}

void sample(const SampleArguments& args) {
  const std::string prompt = prompt_of(args);
  const std::unique_ptr<Backend> backend = make_backend(args.device);
  const LoadedModel loaded =
      load_model(args.path, *backend, {.max_batch = std::min(args.count, kBatch), .batch_key = "--count", .act = {}});
  require_causal(loaded, "sample");
  print_notes(loaded.damaged);
  const std::unique_ptr<TextModel> text = text_model(loaded, args.tokenizer);
  Writer(args, loaded, *text, prompt).run();
}

}  // namespace

void add_sample_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("sample", "let a model write");
  const auto args = std::make_shared<SampleArguments>();
  command->add_option("path", args->path, "a run's folder (its newest checkpoint) or a checkpoint's")->required();
  CLI::Option* prompt = command->add_option("--prompt", args->prompt, "what the text starts with (default: nothing)");
  command->add_option("--prompt-file", args->prompt_file, "a file with what the text starts with")->excludes(prompt);
  const auto number = [&](const char* name, auto& value, const char* help, auto least, auto most) {
    command->add_option(name, value, help)->check(between(least, most))->capture_default_str();
  };
  number("--tokens", args->tokens, "at most so many; a text may end by itself before", int64_t{1}, int64_t{1} << 40);
  number("--temperature", args->sampling.temperature, "divides the logits; 0: always the most likely token", 0.0, 1e3);
  number("--top-k", args->sampling.top_k, "only from the K most likely tokens; 0: from all", int64_t{0},
         int64_t{1} << 30);
  number("--top-p", args->sampling.top_p, "only from the fewest tokens with this much of the probability", 1e-9, 1.0);
  command->add_option("--seed", args->sampling.seed, "the same seed writes the same text")
      ->check(any_seed())
      ->capture_default_str();
  number("--count", args->count, "how many samples, up to 8 at a time", int64_t{1}, int64_t{1} << 30);
  command->add_option("--tokenizer", args->tokenizer, "as for `sluice tokenizer encode` (default: the run's own)");
  command->add_option("--device", args->device, "where it runs")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command->callback([args] { sample(*args); });
}

}  // namespace sluice
