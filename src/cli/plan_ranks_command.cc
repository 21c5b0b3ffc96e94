// sluice plan-ranks CONFIG --ranks R [--tokens N] [--context T] [--steps N] [--flops F] [--bandwidth B] [--json FILE|-]
//                  [--picture FILE.svg]
//
// How attention's work would be spread over ranks (src/placement). Nothing is trained and no rank is started. The table
// goes to standard output; with --json - standard output carries the JSON alone.
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/output.h"
#include "experiment/experiment.h"
#include "kernels/types/tensor.h"
#include "placement/plan_report.h"

namespace sluice {
namespace {

constexpr int64_t kMostRanks = 1024, kMostWindow = 1 << 24, kMostTokens = 1 << 26;

struct PlanArguments {
  std::string config, json, picture;
  std::vector<std::string> overrides;
  int64_t context = 0, tokens = 0, steps = 1;
  PlanLimits limits;
  double tera_linear = 350, tera_attention = 0, giga_bandwidth = 40;
  Machine machine;
};

// Everything read and written is looked at before the work.
Experiment experiment_of(const PlanArguments& args) {
  std::vector<std::string> read;
  std::error_code unknown;
  if (std::filesystem::is_regular_file(args.config, unknown)) {
    for (const ConfigFile& file : read_config_files(args.config)) read.push_back(file.path);
  }
  check_output_file("--json", args.json, read);
  if (args.picture == "-" && args.json == "-")
    throw UserError("--json and --picture both go to standard output; name a file for one of them");
  check_output_file("--picture", args.picture, read);
  if (!args.json.empty() && args.json != "-" &&
      std::filesystem::weakly_canonical(args.json) == std::filesystem::weakly_canonical(args.picture))
    throw UserError("--json and --picture both name {}; name two files", args.json);
  return load_experiment(args.config, args.overrides);
}

void fill_machine(PlanArguments& args) {
  args.machine.linear_rate = args.tera_linear * 1e12;
  args.machine.attention_rate = (args.tera_attention > 0 ? args.tera_attention : args.tera_linear) * 1e12;
  args.machine.bandwidth = args.giga_bandwidth * 1e9;
}

// Windows of a step.
int64_t windows_of(const PlanArguments& args) {
  const int64_t tokens = args.limits.ranks * args.tokens;
  if (tokens > kMostTokens)
    throw UserError("--ranks {} with --tokens {} are {} tokens a step, more than {}", args.limits.ranks, args.tokens,
                    tokens, kMostTokens);
  if (tokens % args.context != 0)
    throw UserError(
        "--ranks {} with --tokens {} are {} tokens a step, no multiple of the context, {} (--context, or "
        "model.context): a step is whole windows",
        args.limits.ranks, args.tokens, tokens, args.context);
  return tokens / args.context;
}

void print_plan_notes(const PlanReport& report, const DataSource& source, const Experiment& experiment) {
  std::vector<std::string> notes;
  if (!source.masks_documents())
    notes.push_back(fmt::format(
        "attention is not kept within documents{}, so every window is one piece and all windows cost the same",
        experiment.data.type == "tokens" ? " (data.document_mask)" : " (data.type is not tokens)"));
  const int64_t read = int64_t(report.steps.size()) * report.limits.ranks * report.tokens / report.context;
  if (const int64_t epoch = source.sequences_per_epoch(); epoch > 0 && read > epoch)
    notes.push_back(
        fmt::format("{} windows are planned, but the data have {}: some are planned more than once", read, epoch));
  int64_t unplaced = 0;
  for (const auto& step : report.steps)
    for (const PlanCost& plan : step) unplaced += plan.unplaced;
  if (unplaced > 0)
    notes.push_back(
        fmt::format("variable-length packing found no room within --most-tokens {} for {} pieces, which went beyond it",
                    report.limits.most_tokens, unplaced));
  print_notes(notes);
}

void plan_ranks(PlanArguments args) {
  const Experiment experiment = experiment_of(args);
  if (args.context == 0) args.context = experiment.model.context;
  if (args.context > kMostWindow)
    throw UserError("plan-ranks takes windows of up to {} tokens, but model.context is {}", kMostWindow, args.context);
  if (args.tokens == 0) args.tokens = args.context;
  fill_machine(args);
  const int64_t windows = windows_of(args);
  const ModelWork work = work_of(experiment.model, int64_t(size_of(experiment.act())));
  const std::unique_ptr<DataSource> source =
      make_source(experiment.data, Split::kTrain, args.context, experiment.model.vocab_size, experiment.seed);
  PlanReport report;
  report.context = args.context;
  report.tokens = args.tokens;
  report.limits = args.limits;
  report.machine = args.machine;
  report.work = work;
  for (int64_t step = 0; step < args.steps; ++step) {
    const Pieces pieces = pieces_of(*source, step * windows, windows);
    report.pieces += int64_t(pieces.size());
    std::vector<PlanCost> costs;
    for (const Plan& plan : make_plans(pieces, args.limits, work, args.machine))
      costs.push_back(cost_of(plan, pieces, work, args.machine));
    report.steps.push_back(std::move(costs));
  }
  print_plan_notes(report, *source, experiment);
  if (!args.json.empty()) write_json(to_json(report), args.json);
  if (!args.picture.empty()) write_text(to_svg(report), args.picture);
  if (args.json != "-" && args.picture != "-") print_text(to_text(make_table(report), terminal_width()));
}

void add_sizes(CLI::App& command, PlanArguments& args) {
  command.add_option("--ranks", args.limits.ranks, "ranks that share a step")
      ->required()
      ->check(between(int64_t{2}, kMostRanks));
  command.add_option("--tokens", args.tokens, "tokens of a rank and step (default: the context)")
      ->check(between(int64_t{1}, kMostWindow));
  command.add_option("--context", args.context, "tokens of a window, in place of model.context")
      ->check(between(int64_t{2}, kMostWindow));
  command.add_option("--steps", args.steps, "steps whose mean is told")
      ->check(between(int64_t{1}, int64_t{10000}))
      ->capture_default_str();
}

void add_speeds(CLI::App& command, PlanArguments& args) {
  command.add_option("--flops", args.tera_linear, "what a rank reaches in matrix products, in TFLOP/s")
      ->check(between(1e-6, 1e6))
      ->capture_default_str();
  command.add_option("--attention-flops", args.tera_attention, "and in attention (default: the same)")
      ->check(between(1e-6, 1e6));
  command.add_option("--bandwidth", args.giga_bandwidth, "what a rank sends, and receives meanwhile, in GB/s")
      ->check(between(1e-6, 1e6))
      ->capture_default_str();
  command.add_option("--tile", args.machine.tile, "rows and keys that attention computes at once, whole")
      ->check(between(int64_t{1}, int64_t{1024}))
      ->capture_default_str();
}

void add_limits(CLI::App& command, PlanArguments& args) {
  command
      .add_option("--tolerance", args.limits.tolerance,
                  "disaggregated: how far from the mean a rank's pairs may be, as a share of it")
      ->check(between(0.0, 1.0))
      ->capture_default_str();
  command.add_option("--block", args.limits.block, "disaggregated: rows that move at once, from each end of a piece")
      ->check(between(int64_t{1}, kMostWindow))
      ->capture_default_str();
  command.add_option("--most-tokens", args.limits.most_tokens, "variable-length: what a rank may hold (default: all)")
      ->check(between(int64_t{1}, kMostTokens));
}

}  // namespace

void add_plan_ranks_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("plan-ranks", "plan how attention's work is spread over ranks: four plans and their cost");
  const auto args = std::make_shared<PlanArguments>();
  command->add_option("config", args->config, "the experiment's JSON file: sizes of its model, documents of its data")
      ->required();
  add_set_option(*command, args->overrides);
  add_sizes(*command, *args);
  add_speeds(*command, *args);
  add_limits(*command, *args);
  command->add_option("--json", args->json, "also write everything here; - prints it instead of the table");
  command->add_option("--picture", args->picture, "also draw what each rank does, as SVG");
  command->callback([args] { plan_ranks(*args); });
}

}  // namespace sluice
