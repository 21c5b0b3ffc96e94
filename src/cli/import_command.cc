// sluice import FOLDER --out DIR [--config FILE] [--set k=v ...] [--context N]
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "data/tokenizer.h"
#include "train/interchange/import.h"

namespace sluice {
namespace {

struct ImportArguments {
  std::string folder, out, config;
  std::vector<std::string> overrides;
  int64_t context = 0;
};

// The folder's tokenizer if Sluice can read it, for data that needs one.
bool takes_tokenizer(const ForeignModel& foreign, const std::string& folder) {
  try {
    return load_tokenizer(folder, "import")->vocab_size() <= foreign.model.vocab_size;
  } catch (const UserError&) {
    return false;
  }
}

// The user's config with the folder's model in it.
Experiment experiment_for(const ForeignModel& foreign, const ImportArguments& args) {
  Json json = args.config.empty() ? Json::object() : read_config_chain(args.config);
  if (!json.contains("data")) json["data"] = {{"type", "tokens"}};
  for (const std::string& assignment : args.overrides) {
    if (assignment.starts_with("model.") || assignment.starts_with("model="))
      throw UserError("--set {}: the model is the folder's (--context N changes its context)", assignment);
    apply_override(json, assignment);
  }
  const std::filesystem::path out(args.out);
  if (!json.contains("name")) json["name"] = (out.has_filename() ? out : out.parent_path()).filename().string();
  json["model"] = model_group(foreign.model);
  Experiment experiment = parse_experiment(json);
  const bool says_first = json["data"].is_object() && json["data"].contains("first_token");
  if (experiment.data.type == "tokens" && !says_first) experiment.data.first_token = foreign.first_token;
  if (experiment.data.type == "tokens" && experiment.data.tokenizer.empty() && takes_tokenizer(foreign, args.folder))
    experiment.data.tokenizer = (out / "tokenizer").string();
  return experiment;
}

void run_import(const ImportArguments& args) {
  const ForeignModel foreign = read_foreign_model(args.folder, args.context);
  Experiment experiment = experiment_for(foreign, args);
  const bool reads_tokenizer = !experiment.data.tokenizer.empty();
  const ImportResult result = import_folder(args.folder, foreign, std::move(experiment), args.out);
  fmt::print("{}: a run at step 0 with the {} parameters of {} (architecture {})\n", args.out, result.parameters,
             args.folder, name_of(result.architecture));
  if (result.has_tokenizer && !reads_tokenizer)
    fmt::print(stderr, "note: Sluice cannot read the folder's tokenizer; its files are in {}/tokenizer\n", args.out);
  fmt::print("train on with sluice train {0}/config.json --resume {0} --out RUN --set 'data.train_shards=[\"...\"]' "
             "--set 'data.validation_shards=[\"...\"]'\n",
             args.out);
}

}  // namespace

void add_import_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("import", "make a run of a GPT-2 or LLaMA-like folder of the transformers library");
  auto args = std::make_shared<ImportArguments>();
  command->add_option("folder", args->folder, "a folder with config.json and safetensors")->required();
  command->add_option("--out", args->out, "the run's folder; it must not be there yet")->required();
  command->add_option("--config", args->config, "a config for data, training and logging; its model is the folder's");
  add_set_option(*command, args->overrides);
  command
      ->add_option("--context", args->context,
                   "tokens in a sequence instead of the folder's, e.g. to train on less memory")
      ->check(between(1, 1 << 20));
  command->callback([args] { run_import(*args); });
}

}  // namespace sluice
