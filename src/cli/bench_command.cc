// sluice bench CONFIG [--set k=v ...] [--steps N] [--json FILE]
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/output.h"
#include "kernels/device/device.h"
#include "train/step_benchmark.h"

namespace sluice {
namespace {

struct BenchArguments {
  std::string config, json;
  std::vector<std::string> overrides;
  int64_t steps = 5, warmup = 2;
};

void bench(const BenchArguments& args) {
  std::vector<std::string> read;
  std::error_code unknown;
  if (std::filesystem::is_regular_file(args.config, unknown)) {
    for (const ConfigFile& file : read_config_files(args.config)) read.push_back(file.path);
  }
  check_output_file("--json", args.json, read);
  const Experiment experiment = load_experiment(args.config, args.overrides);
  const std::unique_ptr<Backend> backend = make_backend(experiment.device, 0, experiment.train.attention_backend);
  print_line("{}", backend->describe());
  const StepBenchmark result = benchmark_step(*backend, experiment, args.warmup, args.steps);
  print_text(harmless_lines(to_text(result, experiment)));
  if (!args.json.empty()) write_json(to_json(result), args.json);
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("bench", "time a config's training step, by op, against its matmuls alone");
  auto args = std::make_shared<BenchArguments>();
  command->add_option("config", args->config, "the experiment's JSON file, such as configs/bench/small.json")
      ->required();
  add_set_option(*command, args->overrides);
  command->add_option("--steps", args->steps, "steps that are timed")->check(between(1, 10000));
  command->add_option("--warmup", args->warmup, "steps before them")->check(between(0, 10000));
  command->add_option("--json", args->json, "also write the figures here");
  command->callback([args] { bench(*args); });
}

}  // namespace sluice
