// sluice analyze RUN|CHECKPOINT [--all-checkpoints] [--data SHARD...] [--tokenizer T] [--json FILE|-] [--save]
//
// The table goes to standard output, warnings to standard error; with --json - standard output carries the JSON alone.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/output.h"
#include "kernels/device/device.h"
#include "measure/analysis_table.h"
#include "measure/analyzer.h"
#include "runs/load_model.h"
#include "runs/run_data.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

struct AnalyzeArguments {
  std::string path, json, tokenizer, device = "auto";
  std::vector<std::string> data;
  std::vector<double> thresholds = AnalysisOptions{}.thresholds;
  int64_t sequences = AnalysisOptions{}.sequences, length = 0, map_positions = AnalysisOptions{}.map_positions;
  bool all_checkpoints = false, no_gradients = false, save = false;
};

// The folders to analyse, oldest first.
std::vector<fs::path> checkpoints_of(const AnalyzeArguments& args) {
  if (!args.all_checkpoints) return {args.path};
  const fs::path folder = fs::path(args.path) / "checkpoints";
  std::vector<fs::path> out;
  for (const int64_t step : list_checkpoints(folder)) out.push_back(folder / fmt::format("step_{:08}", step));
  if (out.empty()) throw UserError("{}: no checkpoint in it; --all-checkpoints takes a run's folder", args.path);
  return out;
}

// Held-out sequences of the wanted length.
std::unique_ptr<DataSource> open_source(const AnalyzeArguments& args, const LoadedModel& loaded) {
  const ModelConfig& model = loaded.experiment.model;
  const int64_t length = args.length > 0 ? args.length : analysis_length(model.context);
  if (args.length > model.context)
    throw UserError("--length {} is more than the model's context of {} tokens (model.context)", args.length,
                    model.context);
  if (length < 2) throw UserError("an analysis needs sequences of 2 tokens, but model.context is {}", model.context);
  return open_run_data(loaded, Split::kHeldOut, {args.data, "--data", args.tokenizer}, length);
}

Analysis analyze_one(const AnalyzeArguments& args, const fs::path& path, Backend& backend) {
  LoadModelOptions load;
  load.act = DType::kF32;
  load.training = !args.no_gradients;
  LoadedModel loaded = load_model(path, backend, load);
  print_notes(loaded.damaged);
  const fs::path run = args.save ? run_of(loaded.checkpoint) : "";
  if (args.save) check_output_folder("--save", run / "analysis");
  const std::unique_ptr<DataSource> source = open_source(args, loaded);
  AnalysisOptions options;
  options.sequences = args.sequences;
  options.thresholds = args.thresholds;
  options.gradients = !args.no_gradients;
  options.map_positions = args.map_positions;
  const Analysis analysis = Analyzer(*loaded.model, *source, options).run(loaded.step);
  if (!std::isfinite(analysis.model.loss))
    throw RunError("the model's loss is {}, so there is nothing to analyse", std::fabs(analysis.model.loss));
  if (args.save) print_saved(save_analysis(analysis, run));
  return analysis;
}

Json as_json(const AnalyzeArguments& args, const std::vector<Analysis>& analyses) {
  Json out = {{"path", args.path}};
  for (const Analysis& analysis : analyses) out["analyses"].push_back(analysis.json());
  return out;
}

void analyze(AnalyzeArguments args) {
  std::sort(args.thresholds.begin(), args.thresholds.end());
  std::vector<std::string> read = args.data;
  read.push_back(args.tokenizer);
  check_output_file("--json", args.json, read);
  const std::vector<fs::path> checkpoints = checkpoints_of(args);
  const std::unique_ptr<Backend> backend = make_backend(args.device);
  std::vector<Analysis> analyses;
  for (const fs::path& path : checkpoints) analyses.push_back(analyze_one(args, path, *backend));
  const size_t width = terminal_width();
  if (!args.json.empty()) write_json(as_json(args, analyses), args.json);
  if (args.json != "-") print_text(harmless_lines(analysis_text(analyses, width > 0 ? width : 120)));
}

}  // namespace

void add_analyze_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("analyze", "measure a model's attention, values, activations and gradients");
  const auto args = std::make_shared<AnalyzeArguments>();
  command->add_option("path", args->path, "a run's folder (its newest checkpoint) or a checkpoint's")->required();
  command->add_flag("--all-checkpoints", args->all_checkpoints, "every checkpoint that the run has kept");
  command->add_option("--data", args->data, "token shards to measure on (default: the run's held-out data)")
      ->type_name("SHARD");
  command->add_option("--tokenizer", args->tokenizer,
                      "what made the shards (default: what the run's data.tokenizer says)");
  command->add_option("--sequences", args->sequences, "held-out sequences")
      ->check(between(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--length", args->length, "tokens of a sequence (default: 64, or the model's context)")
      ->check(between(int64_t{2}, int64_t{4096}));
  command->add_option("--thresholds", args->thresholds, "mean attention above which a position counts as a sink")
      ->delimiter(',')
      ->check(between(0.0, 1.0))
      ->capture_default_str();
  command
      ->add_option("--map-positions", args->map_positions, "positions of the mean attention maps in the JSON; 0: none")
      ->check(between(int64_t{0}, int64_t{1024}))
      ->capture_default_str();
  command->add_flag("--no-gradients", args->no_gradients, "leave out the gradients of the values, and their memory");
  command->add_option("--device", args->device, "where it runs")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command->add_flag("--save", args->save, "keep it in the run's folder, where sluice compare finds it");
  command->add_option("--json", args->json, "write everything to this file; - prints it instead of the table");
  command->callback([args] { analyze(*args); });
}

}  // namespace sluice
