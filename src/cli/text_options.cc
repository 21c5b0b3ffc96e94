// Options of commands that read text, their notes, and the line of how far they are (text_options.h).
#include "cli/text_options.h"

#include <fmt/format.h>
#include <unistd.h>

#include "base/console.h"
#include "base/error.h"
#include "cli/number_option.h"
#include "cli/output.h"
#include "train/progress.h"

namespace sluice {

TextOptions TextArguments::resolved() const {
  if (options.format == "text" && !field.empty()) throw UserError("--field is of JSON lines, but --format is text");
  if (options.format == "jsonl" && !options.separator.empty()) {
    throw UserError("--separator is of plain text, but --format is jsonl, where each line is a document");
  }
  TextOptions text = options;
  if (!field.empty()) text.field = field;
  text.replace_invalid = invalid == "replace";
  text.max_document_bytes = uint64_t(max_document_mb * 1e6);
  return text;
}

void add_text_options(CLI::App& command, TextArguments& args, bool required) {
  command
      .add_option("input", args.inputs,
                  "text: files, folders, globs, or - for the standard input; zstd and gzip are unpacked")
      ->required(required);
  command.add_option("--format", args.options.format, "text, jsonl, or auto: by the file's name and its first line")
      ->check(CLI::IsMember({"auto", "text", "jsonl"}));
  command.add_option("--separator", args.options.separator,
                     "the line between documents; without it a file is a document");
  command.add_option("--field", args.field,
                     "where the text is in a line of JSON, \"text\" by default; a.b is the b in the object a");
  command
      .add_option("--invalid", args.invalid,
                  "bytes that are no UTF-8, and lone surrogates in JSON: refuse, or replace by U+FFFD")
      ->check(CLI::IsMember({"refuse", "replace"}));
  command.add_flag("--skip-bad", args.options.skip_bad,
                   "leave documents out that would be refused (bad JSON, no text, no UTF-8, too long), and count them");
  command
      .add_option("--max-document-mb", args.max_document_mb, "a longer document is refused; it is held in memory whole")
      ->capture_default_str()
      ->check(between(0.001, 100000.0));
}

void print_text_notes(const TextReport& report, const TextArguments& args) {
  print_notes(report.notes());
  if (!args.field.empty() && report.json_files == 0)
    print_notes({"--field was of no use: no input was read as JSON lines"});
}

void print_unknown(int64_t count, const Tokenizer& tokenizer, const std::string& place) {
  if (count == 0) return;
  // Of BERT's every vocabulary has unknown words.
  const char* remedy = std::string_view(tokenizer.type()) == "wordpiece"
                           ? ""
                           : "; a model made with spm_train --byte_fallback=true (as those of sluice tokenizer train) "
                             "loses none";
  print_notes({fmt::format("{} of the tokens stand for text that {} has no piece for and that is lost{}{}", count,
                           tokenizer.name(), place.empty() ? "" : ", the first in " + place, remedy)});
}

void print_losses(const Tokenizer& tokenizer, const std::string& meaning) {
  if (tokenizer.loses().empty()) return;
  print_notes({fmt::format("{} does not keep {}: {}", tokenizer.name(), tokenizer.loses(), meaning)});
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
  if (terminal_) show_live_line(STDERR_FILENO, line);
  else tell_line(line);
  open_ = terminal_;
}

void ReadingLine::end() {
  if (open_) clear_live_line(STDERR_FILENO);
  open_ = false;
}

}  // namespace sluice
