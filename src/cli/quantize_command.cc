// sluice quantize RUN|CHECKPOINT [--weights minmax|mse] [--activations minmax|percentile] [--per-channel] [--save]
//                 [--data SHARD...] [--calibration-data SHARD...] [--tokenizer T] [--json FILE|-]
//
// The table goes to standard output, warnings and progress to standard error; with --json - standard output carries the
// JSON alone. Computed in fp32 whatever the run's precision: products of integers and scales have no room in bf16.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/output.h"
#include "kernels/device/device.h"
#include "measure/quantization_report.h"
#include "runs/load_model.h"
#include "runs/run_data.h"

namespace sluice {
namespace {

struct QuantizeArguments {
  std::string path, json, tokenizer, device = "auto", weights = "minmax", activations = "minmax";
  std::vector<std::string> data, calibration_data;
  QuantizationOptions options;
  double percentile = 99.999;
  int64_t batch = 16, batches = 0, layer_batches = 16;
  bool save = false;
};

constexpr int64_t kEndlessBatches = 32;  // of a source that has no end, where --batches does not say how many

void show_progress(const std::string& text) {
  if (text.empty()) clear_live_line(STDERR_FILENO);
  else show_live_line(STDERR_FILENO, text);
}

int64_t sequences_to_evaluate(const QuantizeArguments& args, const DataSource& held_out) {
  const int64_t all = held_out.sequences_per_epoch(), wanted = args.batches * args.batch;
  if (all == 0) return wanted > 0 ? wanted : kEndlessBatches * args.batch;
  return wanted > 0 ? std::min(wanted, all) : all;
}

Json with_sources(const QuantizationReport& report, const LoadedModel& loaded, const DataSource& calibration,
                  const DataSource& held_out) {
  Json out = {{"checkpoint", loaded.checkpoint.string()},
              {"step", loaded.step},
              {"name", loaded.experiment.name},
              {"calibration_data", calibration.describe()},
              {"data", held_out.describe()}};
  out.update(report.json());
  return out;
}

void quantize(QuantizeArguments args) {
  std::vector<std::string> read = args.data;
  read.insert(read.end(), args.calibration_data.begin(), args.calibration_data.end());
  read.push_back(args.tokenizer);
  check_output_file("--json", args.json, read);
  args.options.mse_weights = args.weights == "mse";
  if (args.activations == "percentile") args.options.percentile = args.percentile;
  const std::unique_ptr<Backend> backend = make_backend(args.device);
  const LoadedModel loaded = load_model(args.path, *backend, {.max_batch = args.batch, .act = DType::kF32});
  print_notes(loaded.damaged);
  const std::filesystem::path run = args.save ? run_of(loaded.checkpoint) : "";
  if (args.save) check_output_folder("--save", run);
  const int64_t context = loaded.experiment.model.context;
  const auto held_out = open_run_data(loaded, Split::kHeldOut, {args.data, "--data", args.tokenizer}, context);
  const auto calibration =
      open_run_data(loaded, Split::kTrain, {args.calibration_data, "--calibration-data", args.tokenizer}, context);
  const int64_t sequences = sequences_to_evaluate(args, *held_out);

  Quantizer quantizer(*loaded.model, args.options);
  show_progress("calibration");
  quantizer.calibrate(*calibration);
  const QuantizationReport report = measure_quantization(
      quantizer, *held_out, sequences, std::min(sequences, args.layer_batches * args.batch), show_progress);
  show_progress("");

  if (args.json != "-") {
    print_line("{} at step {}", loaded.checkpoint.string(), loaded.step);
    print_out("\n{}", to_text(report, terminal_width()));
  }
  const Json json = with_sources(report, loaded, *calibration, *held_out);
  if (args.save) {
    write_json(json, run / "quantization.json");
    print_saved(run / "quantization.json");
  }
  if (!args.json.empty()) write_json(json, args.json);
}

}  // namespace

void add_quantize_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("quantize", "what quantizing a model's linear layers costs: W8A8 and its like");
  const auto args = std::make_shared<QuantizeArguments>();
  const auto number = [&](const char* name, auto& value, const char* help, auto least, auto most) {
    command->add_option(name, value, help)->check(between(least, most))->capture_default_str();
  };
  const auto choice = [&](const char* name, std::string& value, const char* help, std::vector<std::string> choices) {
    command->add_option(name, value, help)->check(CLI::IsMember(std::move(choices)))->capture_default_str();
  };
  constexpr int64_t kOne = 1, kMany = 1 << 20;
  command->add_option("path", args->path, "a run's folder (its newest checkpoint) or a checkpoint's")->required();
  choice("--weights", args->weights, "what a weight's grid reaches to", {"minmax", "mse"});
  choice("--activations", args->activations, "what an input's grid reaches to", {"minmax", "percentile"});
  command->add_flag("--all-activations", args->options.all_activations,
                    "also with everything else that a run makes on grids, scores and attention weights too; slow");
  command->add_flag("--per-channel", args->options.per_channel, "a grid for each row of a weight");
  number("--weight-bits", args->options.weight_bits, "bits of a weight", 2, 16);
  number("--activation-bits", args->options.input_bits, "bits of an input", 2, 16);
  number("--percentile", args->percentile, "of --activations percentile", 99.0, 100.0);
  number("--momentum", args->options.momentum, "of --activations minmax, from batch to batch", 0.0, 0.9999);
  number("--calibration-batches", args->options.calibration_batches, "batches of training data for the inputs' ranges",
         kOne, kMany);
  number("--batch", args->batch, "sequences of a batch", kOne, kMany);
  number("--batches", args->batches, "held-out batches; 0: all there are, or 32 of endless data", int64_t{0}, kMany);
  number("--layer-batches", args->layer_batches, "of these for each layer's part in the loss; 0: leave that out",
         int64_t{0}, kMany);
  command->add_option("--data", args->data, "token shards to evaluate on (default: the run's held-out data)")
      ->type_name("SHARD");
  command->add_option("--calibration-data", args->calibration_data, "token shards to calibrate on (default: the run's)")
      ->type_name("SHARD");
  command->add_option("--tokenizer", args->tokenizer,
                      "what made the shards (default: what the run's data.tokenizer says)");
  choice("--device", args->device, "where it runs", {"auto", "cpu", "cuda"});
  command->add_flag("--save", args->save,
                    "keep it as quantization.json in the run's folder, where sluice compare finds it");
  command->add_option("--json", args->json, "write everything to this file; - prints it instead of the table");
  command->callback([args] { quantize(*args); });
}

}  // namespace sluice
