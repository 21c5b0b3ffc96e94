// The program: `sluice COMMAND ...`. Errors become one sentence on stderr and an exit code: 2 for wrong input, 1 for a
// run that failed, what the command set (130, 143) or 0 otherwise.
#include <fmt/format.h>

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

#include "base/build_info.h"
#include "base/config/config.h"
#include "base/config/sentence.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/output.h"

namespace sluice {
namespace {

constexpr int kWrongInput = 2;

int complain(const std::string& sentence, int code) {
  tell("sluice: {}", sentence);
  return code;
}

std::string version_text() {
  const BuildInfo& info = build_info();
  return fmt::format("sluice {}{} ({}, {})", info.version, info.commit.empty() ? "" : " " + info.commit,
                     info.build_type, info.compiler);
}

// "there is no option --sett; did you mean --set?" for the first argument that looks like an option and is none of the
// command's, which is called by `path`; empty where all are.
std::string mistyped_option(const CLI::App& command, const std::string& path, int argc, char** argv) {
  std::vector<std::string> known;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i], name = argument.substr(0, argument.find('='));
    if (name == "--") break;
    if (name.rfind("--", 0) != 0 || std::count(known.begin(), known.end(), name) > 0) continue;
    const auto longer =
        std::find_if(known.begin(), known.end(), [&](const std::string& one) { return one.starts_with(name); });
    const std::string near = name.size() > 2 && longer != known.end() ? *longer : nearest(name, known);
    return fmt::format("there is no option {}; {}", name,
                       near.empty() ? fmt::format("try {} --help", path) : fmt::format("did you mean {}?", near));
  }
  return "";
}

// A parse error of CLI11 in the words of the other errors; a mistyped command or option gets the nearest real one.
int wrong_arguments(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) names.push_back(command->get_name());
  const std::string first = argc > 1 ? argv[1] : "";
  if (first.empty()) {
    put_on_console(STDERR_FILENO, app.help());
    return kWrongInput;
  }
  const CLI::App* used = &app;
  std::string path = "sluice";
  while (!used->get_subcommands().empty()) {
    used = used->get_subcommands().front();
    path += " " + used->get_name();
  }
  if (used == &app && first[0] != '-') {
    const std::string near = nearest(first, names);
    const std::string hint = first.ends_with(".json") ? fmt::format("did you mean sluice train {}?", first)
                             : near.empty()           ? "try sluice --help"
                                                      : fmt::format("did you mean {}?", near);
    return complain(fmt::format("there is no command \"{}\"; {}", first, hint), kWrongInput);
  }
  if (used == &app) return complain(fmt::format("there is no option \"{}\"; try sluice --help", first), kWrongInput);
  const std::string mistyped = mistyped_option(*used, path, argc, argv);
  return complain(mistyped.empty() ? fmt::format("{}; try {} --help", error.what(), path) : mistyped, kWrongInput);
}

int run(int argc, char** argv) {
  CLI::App app{"Sluice pretrains GPT-style language models whose attention is swapped by a config.", "sluice"};
  app.set_version_flag("--version", version_text());
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  add_train_command(app);
  add_sweep_command(app);
  add_analyze_command(app);
  add_compare_command(app);
  add_quantize_command(app);
  add_config_command(app);
  add_bench_command(app);
  add_plan_ranks_command(app);
  add_export_command(app);
  add_import_command(app);
  add_doctor_command(app);
  add_tokenizer_command(app);
  add_eval_command(app);
  add_sample_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) return wrong_arguments(app, error, argc, argv);
    std::ostringstream help;
    app.exit(error, help, help);
    print_text(help.str());
  }
  finish_output();
  return exit_code();
}

}  // namespace

int& exit_code() {
  static int code = 0;
  return code;
}

}  // namespace sluice

int main(int argc, char** argv) {
  sluice::open_closed_streams();
  sluice::command_words().assign(argv, argv + argc);
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes is a failed write, which is told, and not the process's death
  try {
    return sluice::run(argc, argv);
  } catch (const std::exception& error) {
    const sluice::Sentence sentence = sluice::sentence_of(error);
    return sluice::complain(sentence.text, sentence.exit_code);
  }
}
