// sluice bench CONFIG [--set k=v ...] [--steps N] [--json FILE]
// sluice bench op NAME CONFIG [--set k=v ...] [--repeats N] [--json FILE]
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "benchmark/op_benchmark.h"
#include "benchmark/step_benchmark.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/output.h"
#include "kernels/device/device.h"
#include "train/training_data.h"

namespace sluice {
namespace {

struct BenchArguments {
  std::string config, json, op;
  std::vector<std::string> overrides;
  int64_t steps = 5, warmup = 2, repeats = 15;
};

Experiment experiment_of(const BenchArguments& args) {
  std::vector<std::string> read;
  std::error_code unknown;
  if (std::filesystem::is_regular_file(args.config, unknown)) {
    for (const ConfigFile& file : read_config_files(args.config)) read.push_back(file.path);
  }
  check_output_file("--json", args.json, read);
  Experiment experiment = load_experiment(args.config, args.overrides);
  take_fixed_text(experiment);
  return experiment;
}

std::unique_ptr<Backend> described_backend(const Experiment& experiment) {
  std::unique_ptr<Backend> backend =
      make_backend(experiment.device, 0, choice_name(experiment.train.attention_backend));
  print_line("{}", backend->describe());
  return backend;
}

void bench(const BenchArguments& args) {
  const Experiment experiment = experiment_of(args);
  const std::unique_ptr<Backend> backend = described_backend(experiment);
  const StepBenchmark result = benchmark_step(*backend, experiment, args.warmup, args.steps);
  print_text(harmless_lines(to_text(result, experiment)));
  if (!args.json.empty()) write_json(to_json(result), args.json);
}

void bench_op(const BenchArguments& args) {
  const Experiment experiment = experiment_of(args);
  const std::unique_ptr<Backend> backend = described_backend(experiment);
  const OpBenchmark result = benchmark_op(*backend, experiment, args.op, int(args.repeats));
  print_text(harmless_lines(to_text(result)));
  if (!args.json.empty()) write_json(to_json(result), args.json);
}

void add_config(CLI::App& command, BenchArguments& args) {
  command.add_option("config", args.config, "the experiment's JSON file, such as configs/bench/small.json");
  add_set_option(command, args.overrides);
  command.add_option("--json", args.json, "also write the figures here");
}

void add_op_command(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand("op", "time one op of a config's step by itself, if it is right");
  auto args = std::make_shared<BenchArguments>();
  command->add_option("name", args->op, "the op, as bench CONFIG lists it: attention_forward")->required();
  add_config(*command, *args);
  command->get_option("config")->required();
  command->add_option("--repeats", args->repeats, "calls that are timed, of each shape")->check(between(1, 10000));
  command->callback([args] { bench_op(*args); });
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("bench", "time a config's training step, by op, against its matmuls alone");
  auto args = std::make_shared<BenchArguments>();
  add_config(*command, *args);
  command->add_option("--steps", args->steps, "steps that are timed")->check(between(1, 10000));
  command->add_option("--warmup", args->warmup, "steps before them")->check(between(0, 10000));
  add_op_command(*command);
  command->callback([args, command] {
    if (!command->get_subcommands().empty()) return;
    if (command->get_option("config")->empty())
      throw UserError("bench needs a config, such as configs/bench/small.json");
    bench(*args);
  });
}

}  // namespace sluice
