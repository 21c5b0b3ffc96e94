// The commands: one file each, one function that adds it to the program.
//
// A command's work is its callback. Wrong input is a UserError (exit code 2), a run that fails a RunError (1); a
// command that ends well but has something to say to its caller (130 and 143: stopped by a signal) sets exit_code().
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace sluice {

void add_train_command(CLI::App& app);
void add_analyze_command(CLI::App& app);
void add_compare_command(CLI::App& app);
void add_quantize_command(CLI::App& app);
void add_config_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_doctor_command(CLI::App& app);
void add_tokenizer_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_sample_command(CLI::App& app);
void add_sweep_command(CLI::App& app);
void add_export_command(CLI::App& app);
void add_import_command(CLI::App& app);
void add_plan_ranks_command(CLI::App& app);

// What the program returns when no error was thrown; 0 unless set.
int& exit_code();

// The repeatable option --set key=value, one assignment each time, so that a path may follow it.
inline CLI::Option* add_set_option(CLI::App& command, std::vector<std::string>& overrides) {
  return command.add_option("--set", overrides, "change one config key: --set train.steps=100 (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

// For an option whose value a shell may leave out by mistake: --out "$UNSET".
inline CLI::Validator not_empty() {
  return CLI::Validator([](std::string& text) { return std::string(text.empty() ? "it is empty" : ""); }, "");
}

}  // namespace sluice
