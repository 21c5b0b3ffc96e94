// sluice train CONFIG [--set k=v ...] [--out DIR] [--resume auto|never|DIR]
#include <fcntl.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>

#include "base/config/sentence.h"
#include "base/console.h"
#include "base/files/files.h"
#include "cli/commands.h"
#include "kernels/device/device.h"
#include "ranks/communicator_launch.h"
#include "train/signals.h"
#include "train/trainer.h"

namespace sluice {
namespace {

struct TrainArguments {
  std::string config, out, resume = "auto";
  std::vector<std::string> overrides;
  bool quiet = false, fresh_optimizer = false;
};

// Log lines, made harmless. What cannot be written is lost without a word: the console's reader may have gone away, and
// a full disk is told of by the metrics or the checkpoint.
class LineSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  LineSink(int descriptor, const std::string& pattern) : descriptor_(descriptor) { set_pattern(pattern); }
  LineSink(File file, const std::string& pattern) : LineSink(file.descriptor(), pattern) {
    file_.emplace(std::move(file));
  }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    std::string_view text(line.data(), line.size());
    while (text.ends_with('\n')) text.remove_suffix(1);  // the pattern's own
    put_on_console(descriptor_, harmless(text) + "\n");
  }
  void flush_() override {}

  std::optional<File> file_;
  int descriptor_;
};

// Console and runs/NAME/log.txt; returns the file's sink.
spdlog::sink_ptr open_log(const RunFolder& folder, bool quiet) {
  auto console = std::make_shared<LineSink>(STDOUT_FILENO, "%v");
  if (quiet) console->set_level(spdlog::level::warn);
  auto file =
      std::make_shared<LineSink>(File(folder.log_file(), O_WRONLY | O_CREAT | O_APPEND), "%Y-%m-%d %H:%M:%S %l %v");
  auto logger = std::make_shared<spdlog::logger>("sluice", spdlog::sinks_init_list{console, file});
  logger->set_error_handler([](const std::string&) {});
  spdlog::set_default_logger(logger);
  return file;
}

// A multi-rank run's error is told once, by the rank that the others agree on.
void end_together(Communicator& ranks, const std::exception& error, const spdlog::sink_ptr& file = nullptr) {
  const Sentence sentence = sentence_of(error);
  const RankEnding ending = ranks.conclude(error, sentence.exit_code);
  if (file) spdlog::logger("sluice", file).error("{}", ending.sentence);
  if (ending.tells) tell("sluice: {}", ending.sentence);
  if (!ending.orderly) {
    if (!ending.tells) std::this_thread::sleep_for(std::chrono::seconds(10));  // for the one that tells to end all
    ranks.abort(ending.exit_code);
  }
  exit_code() = ending.exit_code;
}

struct Setup {
  Experiment experiment;
  TrainingData data;
  std::string out;
  ResumeOption resume;
};

// A device tells by itself what it has no room for, before it begins.
bool runs_on_cpu(const Experiment& experiment) {
  return experiment.device == "cpu" || (experiment.device == "auto" && gpu_descriptions().empty());
}

Setup read_setup(const TrainArguments& args, const Communicator& ranks) {
  Setup setup{load_experiment(args.config, args.overrides, args.out), {}, args.out, {}};
  check_ranks(setup.experiment.train, ranks.size());
  if (runs_on_cpu(setup.experiment)) check_memory(setup.experiment, ranks);
  if (setup.out.empty()) setup.out = "runs/" + setup.experiment.name;
  if (ranks.is_root()) setup.resume = ResumeOption::parse(args.resume);
  if (ranks.is_root() && args.fresh_optimizer && setup.resume.mode != ResumeOption::Mode::kFrom)
    throw UserError("--fresh-optimizer is for a start from another run's checkpoint, which --resume DIR names");
  setup.resume.fresh_optimizer = args.fresh_optimizer;
  setup.data = TrainingData::open(setup.experiment);
  take_fixed_text(setup.experiment);
  return setup;
}

// Returns the signal that stopped it, or 0.
int run_training(Backend& backend, Setup setup, Communicator& ranks, bool quiet) {
  const std::string threads = divide_threads(ranks);
  const StopSignals signals;
  std::optional<RunFolder> folder;
  spdlog::sink_ptr file;
  if (ranks.is_root()) {
    folder.emplace(setup.out, setup.experiment.dump(), setup.resume);
    file = open_log(*folder, quiet);
    if (folder->moved_to()) spdlog::info("the former run was moved to {}", folder->moved_to()->string());
  }
  try {
    Trainer trainer(backend, setup.experiment, std::move(setup.data), folder ? &*folder : nullptr, ranks);
    spdlog::info("{} -> {} on {}", setup.experiment.name, setup.out, backend.describe());
    if (ranks.size() > 1) spdlog::info("{}{}{}", ranks.describe(), threads.empty() ? "" : "; ", threads);
    std::istringstream table(trainer.memory_table());
    for (std::string line; std::getline(table, line);) spdlog::info("{}", line);
    try {
      return trainer.run(setup.resume);
    } catch (const std::exception& error) {
      // With the trainer's tensors still there, into which exchanges that were broken off may write.
      if (ranks.size() == 1) throw;
      end_together(ranks, error, file);
      return 0;
    }
  } catch (const std::exception& error) {
    const Sentence sentence = sentence_of(error);
    if (file) spdlog::logger("sluice", file).error("{}", sentence.text);  // to the file alone: main() tells the person
    if (folder && sentence.exit_code == 2) folder->take_back();
    throw;
  }
}

// Where a process sees only its own GPU, as Slurm can arrange, that is number 0.
int gpu_of(const RankPlace& place, const std::string& device) {
  return device == "cpu" ? 0 : place.local_rank % std::max(1, int(gpu_descriptions().size()));
}

// Seconds that the ranks have to meet. What is wrong with the config they hear when they have met.
double meeting_limit(const TrainArguments& args) {
  try {
    return load_experiment(args.config, args.overrides).train.rank_timeout;
  } catch (const std::exception&) {
    return kDefaultRankTimeout;
  }
}

void train(const TrainArguments& args) {
  take_stop_signals();  // before there is another thread, of MPI or OpenMP
  const RankLaunch launch = read_launch();
  const bool alone = launch.starter == RankLaunch::Starter::kNone;
  const std::unique_ptr<Communicator> host = connect_ranks(launch, alone ? 0 : meeting_limit(args));
  if (!host->is_root()) spdlog::set_level(spdlog::level::off);
  std::unique_ptr<Communicator> device;
  try {
    Setup setup = read_setup(args, *host);
    host->set_limit(setup.experiment.train.rank_timeout);
    const Experiment& experiment = setup.experiment;
    const std::unique_ptr<Backend> backend = make_backend(experiment.device, gpu_of(host->place(), experiment.device),
                                                          choice_name(experiment.train.attention_backend));
    device = connect_device(*host, launch, *backend, setup.out);
    Communicator& ranks = device ? *device : *host;
    check_same_config(ranks, setup.experiment.dump().dump(), setup.data.train->identity());
    const int signal = run_training(*backend, std::move(setup), ranks, args.quiet);
    if (signal == 0) return;
    spdlog::info("stopped by {} after a checkpoint; the same command {}goes on from there", signal_name(signal),
                 args.resume == "auto" ? "" : "with --resume auto ");
    exit_code() = exit_code_of(signal);
  } catch (const std::exception& error) {
    if (host->size() == 1) throw;
    end_together(device ? *device : *host, error);
  }
}

}  // namespace

void add_train_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("train", "train a model from a config");
  auto args = std::make_shared<TrainArguments>();
  command->add_option("config", args->config, "the experiment's JSON file")->required();
  add_set_option(*command, args->overrides);
  command->add_option("--out", args->out, "the run's folder (default: runs/NAME)")->check(not_empty());
  command->add_option("--resume", args->resume,
                      "auto: go on from the newest whole checkpoint; never: start over; or a run or checkpoint folder");
  command->add_flag("--fresh-optimizer", args->fresh_optimizer,
                    "with --resume DIR of another run: take its weights, and begin with an empty optimizer state");
  command->add_flag("--quiet", args->quiet, "only the progress line and warnings");
  command->callback([args] { train(*args); });
}

}  // namespace sluice
