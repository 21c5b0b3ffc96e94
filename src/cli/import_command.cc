// sluice import FOLDER --out DIR [--config FILE] [--set k=v ...] [--context N] [--ignore FIELD ...]
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/output.h"
#include "data/config.h"
#include "data/tokenizers/tokenizer.h"
#include "interchange/import.h"

namespace sluice {
namespace {

struct ImportArguments {
  std::string folder, out, config;
  std::vector<std::string> overrides, ignore;
  int64_t context = 0;
};

// The folder's tokenizer if Sluice can read it, for data that needs one; else null.
std::unique_ptr<Tokenizer> tokenizer_for(const ForeignModel& foreign, const std::string& folder) {
  try {
    auto tokenizer = load_tokenizer(folder, "import");
    return tokenizer->vocab_size() <= foreign.model.vocab_size ? std::move(tokenizer) : nullptr;
  } catch (const UserError&) {
    return nullptr;
  }
}

// What data of a masked language model need beside what the user has said.
void add_masking(Json& data) {
  if (!data.is_object()) return;
  if (!data.contains("masking")) data["masking"] = Json::object();
  if (data["masking"].is_object() && !data["masking"].contains("share")) data["masking"]["share"] = 0.15;
}

// The user's config with the folder's model in it.
Experiment experiment_for(const ForeignModel& foreign, const ImportArguments& args) {
  ExperimentLayers layers;
  layers.add({{"data", {{"type", "tokens"}}}}, "sluice import");
  if (!args.config.empty()) layers.add_files(args.config);
  for (const std::string& assignment : args.overrides) {
    if (assignment.starts_with("model.") || assignment.starts_with("model="))
      throw UserError("--set {}: the model is the folder's (--context N changes its context)", assignment);
  }
  layers.add_overrides(args.overrides);
  print_notes(layers.notes());
  Json& json = layers.json();
  const std::filesystem::path out(args.out);
  if (!json.contains("name")) json["name"] = (out.has_filename() ? out : out.parent_path()).filename().string();
  json["model"] = model_group(foreign.model);
  if (!foreign.model.causal) add_masking(json["data"]);
  Experiment experiment = layers.parse();
  const bool says_first = json["data"].is_object() && json["data"].contains("first_token");
  if (experiment.data.type == "tokens" && !says_first) experiment.data.first_token = foreign.trained.first;
  int64_t& mask = experiment.data.masking.token;
  if (!foreign.model.causal && mask < 0) mask = foreign.trained.mask;
  if (experiment.data.type != "tokens" || !experiment.data.tokenizer.empty()) return experiment;
  const auto tokenizer = tokenizer_for(foreign, args.folder);
  if (tokenizer) experiment.data.tokenizer = (out / "tokenizer").string();
  if (!foreign.model.causal && mask_token_of(experiment.data.masking, tokenizer.get()) < 0)
    tell("note: nothing says which the mask token is: data.masking.token must be set, here or in what follows");
  return experiment;
}

// "tensors a, b, c and 9 more"
std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  const size_t shown = std::min(names.size(), kShown);
  return fmt::format("{} {}{}", names.size() == 1 ? "tensor" : "tensors",
                     fmt::join(names.begin(), names.begin() + std::ptrdiff_t(shown), ", "),
                     names.size() > shown ? fmt::format(" and {} more", names.size() - shown) : "");
}

void run_import(const ImportArguments& args) {
  const ForeignModel foreign = read_foreign_model(args.folder, args.context, args.ignore);
  Experiment experiment = experiment_for(foreign, args);
  const bool reads_tokenizer = !experiment.data.tokenizer.empty();
  const ImportResult result = import_folder(args.folder, foreign, std::move(experiment), args.out);
  print_line("{}: a run at step 0 with the {} parameters of {} (architecture {})", args.out, result.parameters,
             args.folder, name_of(result.architecture));
  if (!foreign.ignored.empty())
    print_line("ignored of config.json, as --ignore says: {}", fmt::join(foreign.ignored, ", "));
  if (!result.unwrapped.empty()) print_line("names: {}, and the others likewise", result.unwrapped);
  if (foreign.segments > 1)
    print_line("left out: the rows of token_type_embeddings behind the first: every token is of one segment");
  if (!result.ignored.empty()) print_line("left out: {}", some_of(result.ignored));
  if (result.has_tokenizer && !reads_tokenizer)
    tell("note: Sluice cannot read the folder's tokenizer; its files are in {}/tokenizer", args.out);
  print_line(
      "train on with sluice train {0}/config.json --resume {0} --out RUN --set 'data.train_shards=[\"...\"]' "
      "--set 'data.validation_shards=[\"...\"]'",
      args.out);
  if (!result.finite.all())
    throw RunError("{}: {}; {} is written with them, but no command makes figures or text of such a model", args.folder,
                   result.finite.sentence(), args.out);
}

}  // namespace

void add_import_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "import", "make a run of a folder of the transformers library: GPT-2, OPT, LLaMA, Mistral, Qwen, GPT-NeoX, BERT");
  auto args = std::make_shared<ImportArguments>();
  command->add_option("folder", args->folder, "a folder with config.json and safetensors")->required();
  command->add_option("--out", args->out, "the run's folder; it must not be there yet")->required();
  command->add_option("--config", args->config, "a config for data, training and logging; its model is the folder's");
  add_set_option(*command, args->overrides);
  command
      ->add_option("--context", args->context,
                   "tokens in a sequence instead of the folder's, e.g. to train on less memory")
      ->check(between(1, 1 << 20));
  command
      ->add_option("--ignore", args->ignore,
                   "a field of config.json, or a tensor, that is to be as if it were not there; may be repeated")
      ->type_name("FIELD")
      ->allow_extra_args(false);
  command->callback([args] { run_import(*args); });
}

}  // namespace sluice
