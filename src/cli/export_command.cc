// sluice export RUN|CHECKPOINT DIR [--tokenizer T] [--dtype float32|bfloat16|float16] [--logits N]
#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "base/files/files.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/output.h"
#include "data/config.h"
#include "interchange/export.h"
#include "runs/load_model.h"
#include "runs/model_tokenizer.h"

namespace sluice {
namespace {

struct ExportArguments {
  std::string model, folder;
  ExportOptions options;
};

// The run's tokenizer. One that the config names may have moved since: then the export goes without, and says so.
std::unique_ptr<Tokenizer> find_tokenizer(const Checkpoint& checkpoint, const Experiment& experiment,
                                          std::string& path) {
  const std::string given = path;
  if (given.empty()) path = experiment.data.tokenizer;
  if (path.empty()) return nullptr;
  try {
    return tokenizer_of(checkpoint.path, experiment, given);
  } catch (const UserError& error) {
    if (!given.empty()) throw;
    tell("note: the folder gets no tokenizer: {}", error.what());
    return nullptr;
  }
}

void run_export(ExportArguments args) {
  check_output_folder("the folder", args.folder);
  std::vector<std::string> damaged;
  const Checkpoint checkpoint = open_checkpoint(args.model, damaged);
  print_notes(damaged);
  const Experiment experiment = stored_experiment(checkpoint);
  const auto tokenizer = find_tokenizer(checkpoint, experiment, args.options.tokenizer_path);
  args.options.tokenizer = tokenizer.get();
  args.options.trained.first = experiment.data.first_token;
  if (!experiment.model.causal) args.options.trained.mask = mask_token_of(experiment.data.masking, tokenizer.get());
  const ExportResult result = export_checkpoint(checkpoint, experiment.model, args.folder, args.options);

  for (const std::string& note : result.notes) tell("note: {}", note);
  const bool own = result.architecture == Architecture::kSluice;
  print_line("{} of {}: architecture {}, {} parameters, {} in {}", args.folder, checkpoint.path.string(),
             name_of(result.architecture), result.parameters, bytes_text(result.bytes), args.options.type);
  print_line("load it with {}.from_pretrained(\"{}\"{})", library_class(experiment.model), args.folder,
             own ? ", trust_remote_code=True" : "");
}

}  // namespace

void add_export_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("export", "write a trained model as a folder for the transformers library");
  auto args = std::make_shared<ExportArguments>();
  command->add_option("model", args->model, "a run's folder or a checkpoint's")->required();
  command->add_option("folder", args->folder, "the folder to write; it must not be there yet")->required();
  command->add_option("--tokenizer", args->options.tokenizer_path,
                      "as for `sluice tokenizer encode` (default: the run's data.tokenizer)");
  command->add_option("--dtype", args->options.type, "type of the weights: float32 (default), bfloat16 or float16")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}));
  command
      ->add_option("--logits", args->options.logits,
                   "also write logits.safetensors: this many tokens and the logits for them, to compare with")
      ->check(between(1, 1 << 20));
  command->callback([args] { run_export(*args); });
}

}  // namespace sluice
