// What commands that read text have in common: their options, and the line that shows how far they are.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "data/text/document_reader.h"
#include "data/tokenizers/tokenizer.h"

namespace sluice {

struct TextArguments {
  std::vector<std::string> inputs;
  TextOptions options;
  std::string invalid = "refuse", field;
  double max_document_mb = 64;

  // UserError for options that contradict each other.
  TextOptions resolved() const;
};

void add_text_options(CLI::App& command, TextArguments& args, bool required);

// What there is to say of the text that was read, on standard error.
void print_text_notes(const TextReport& report, const TextArguments& args);

// That text was lost in tokens for what the tokenizer does not know; `place` is that of the first, and may be empty.
void print_unknown(int64_t count, const Tokenizer& tokenizer, const std::string& place);
// What a tokenizer loses of every text (Tokenizer::loses), if it does, and what that means for what is printed.
void print_losses(const Tokenizer& tokenizer, const std::string& meaning);

// Bytes of the files, bytes a second, time left, on standard error; rewritten in place on a terminal, else a line now
// and then.
class ReadingLine {
 public:
  ReadingLine();
  ~ReadingLine() { end(); }
  void show(const DocumentReader& reader);
  void end();

 private:
  using Clock = std::chrono::steady_clock;
  bool terminal_, open_ = false;
  Clock::time_point start_ = Clock::now(), shown_ = start_;
};

}  // namespace sluice
