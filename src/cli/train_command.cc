// sluice train CONFIG [--set k=v ...] [--out DIR] [--resume auto|never|DIR]
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "cli/commands.h"
#include "kernels/device.h"
#include "train/signals.h"
#include "train/trainer.h"

namespace sluice {
namespace {

struct TrainArguments {
  std::string config, out, resume = "auto";
  std::vector<std::string> overrides;
  bool quiet = false;
};

// Console and runs/NAME/log.txt; returns the file's sink.
spdlog::sink_ptr open_log(const RunFolder& folder, bool quiet) {
  auto console = std::make_shared<spdlog::sinks::stdout_color_sink_mt>();
  console->set_pattern("%v");
  if (quiet) console->set_level(spdlog::level::warn);
  auto file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(folder.log_file().string());
  file->set_pattern("%Y-%m-%d %H:%M:%S %l %v");
  auto logger = std::make_shared<spdlog::logger>("sluice", spdlog::sinks_init_list{console, file});
  logger->flush_on(spdlog::level::info);
  logger->set_error_handler([](const std::string&) {});  // a full disk is told of by the metrics or the checkpoint
  spdlog::set_default_logger(logger);
  return file;
}

int run_training(const Experiment& experiment, TrainingData data, const RunFolder& folder, const ResumeOption& resume) {
  if (folder.moved_to()) spdlog::info("the former run was moved to {}", folder.moved_to()->string());
  const std::unique_ptr<Backend> backend = make_backend(experiment.device);
  Trainer trainer(*backend, experiment, std::move(data), folder);
  spdlog::info("{} -> {} on {}", experiment.name, folder.path().string(), backend->describe());
  spdlog::info("{}", trainer.memory_table());
  return trainer.run(resume);
}

void train(const TrainArguments& args) {
  Experiment experiment = load_experiment(args.config, args.overrides);
  const ResumeOption resume = ResumeOption::parse(args.resume);
  TrainingData data = TrainingData::open(experiment);
  const StopSignals signals;
  const RunFolder folder(args.out.empty() ? "runs/" + experiment.name : args.out, experiment.dump(), resume);
  const spdlog::sink_ptr file = open_log(folder, args.quiet);
  try {
    const int signal = run_training(experiment, std::move(data), folder, resume);
    if (signal == 0) return;
    spdlog::info("stopped by {} after a checkpoint; the same command goes on from there", signal_name(signal));
    exit_code() = exit_code_of(signal);
  } catch (const std::exception& error) {
    spdlog::logger("sluice", file).error("{}", error.what());  // to the file alone: main() tells the person
    throw;
  }
}

}  // namespace

void add_train_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("train", "train a model from a config");
  auto args = std::make_shared<TrainArguments>();
  command->add_option("config", args->config, "the experiment's JSON file")->required();
  add_set_option(*command, args->overrides);
  command->add_option("--out", args->out, "the run's folder (default: runs/NAME)");
  command->add_option("--resume", args->resume,
                      "auto: go on from the newest whole checkpoint; never: start over; or a run or checkpoint folder");
  command->add_flag("--quiet", args->quiet, "only the progress line and warnings");
  command->callback([args] { train(*args); });
}

}  // namespace sluice
