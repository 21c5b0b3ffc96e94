// See text_options.h.
#include "cli/text_options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "cli/number_option.h"
#include "train/progress.h"

namespace sluice {

TextOptions TextArguments::resolved() const {
  TextOptions text = options;
  text.replace_invalid = invalid == "replace";
  text.max_document_bytes = uint64_t(max_document_mb * 1e6);
  return text;
}

void add_text_options(CLI::App& command, TextArguments& args, bool required) {
  command
      .add_option("input", args.inputs, "text: files, folders, globs, or - for the standard input; zstd and gzip are unpacked")
      ->required(required);
  command.add_option("--format", args.options.format, "text, jsonl, or auto: by the file's name")
      ->check(CLI::IsMember({"auto", "text", "jsonl"}));
  command.add_option("--separator", args.options.separator, "the line between documents; without it a file is a document");
  command.add_option("--field", args.options.field, "where the text is in a line of JSON")->capture_default_str();
  command.add_option("--invalid", args.invalid, "bytes that are no UTF-8: refuse, or replace by U+FFFD")
      ->check(CLI::IsMember({"refuse", "replace"}));
  command
      .add_option("--max-document-mb", args.max_document_mb, "a longer document is refused; it is held in memory whole")
      ->capture_default_str()
      ->check(between(0.001, 100000.0));
}

ReadingLine::ReadingLine() : terminal_(isatty(STDERR_FILENO) != 0) {}

void ReadingLine::show(const DocumentReader& reader) {
  const auto now = Clock::now();
  const auto seconds_since = [&](Clock::time_point time) { return std::chrono::duration<double>(now - time).count(); };
  if (seconds_since(shown_) < (terminal_ ? 0.1 : 5)) return;
  shown_ = now;
  const double elapsed = seconds_since(start_), taken = double(reader.bytes_taken());
  std::string line = bytes_text(reader.bytes_taken());
  if (reader.bytes_total() > 0) line += " of " + bytes_text(reader.bytes_total());
  line += fmt::format("  {}/s", bytes_text(uint64_t(taken / elapsed)));
  if (reader.bytes_total() > 0 && taken > 0) {
    line += fmt::format("  {} left", duration_text(elapsed / taken * (double(reader.bytes_total()) - taken)));
  }
  std::fputs((terminal_ ? "\r" + line + "\x1b[K" : line + "\n").c_str(), stderr);
  open_ = terminal_;
}

void ReadingLine::end() {
  if (open_) std::fputs("\r\x1b[K", stderr);
  open_ = false;
}

}  // namespace sluice
