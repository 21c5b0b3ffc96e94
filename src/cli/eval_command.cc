// sluice eval RUN|CHECKPOINT [TEXT...] [--stride N] [--hellaswag FILE.jsonl] [--json FILE|-]
//
// Figures go to standard output, progress and notes to standard error; with --json - standard output carries JSON
// alone.
#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <memory>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/output.h"
#include "cli/text_options.h"
#include "kernels/device/device.h"
#include "measure/text_evaluation.h"
#include "runs/load_model.h"
#include "runs/model_tokenizer.h"

namespace sluice {
namespace {

struct EvalArguments {
  std::string path, tokenizer, hellaswag, json, device = "auto";
  TextArguments text;
  int64_t stride = 0, batch = 0, limit = 0;
};

Json perplexity_json(const PerplexityResult& result, int64_t stride, int64_t context) {
  return {{"documents", result.documents},
          {"tokens", result.tokens},
          {"bytes", result.bytes},
          {"context", context},
          {"stride", stride},
          {"loss", result.loss()},
          {"perplexity", result.per_token()},
          {"perplexity_per_byte", result.per_byte()},
          {"bits_per_byte", result.bits_per_byte()}};
}

Json hellaswag_json(const HellaSwagResult& result) {
  const double n = double(result.examples);
  return {{"examples", result.examples},
          {"accuracy_sum", double(result.by_sum) / n},
          {"accuracy_per_token", double(result.by_token) / n},
          {"accuracy_per_byte", double(result.by_byte) / n}};
}

PerplexityResult measure_text(const EvalArguments& args, const LoadedModel& loaded, const Tokenizer& tokenizer,
                              int64_t stride) {
  PerplexityMeter meter(*loaded.model, tokenizer, stride, loaded.experiment.data.first_token);
  DocumentReader reader(args.text.inputs, args.text.resolved());
  ReadingLine line;
  for (std::string document; reader.next(document);) {
    meter.add(document);
    line.show(reader);
  }
  const PerplexityResult result = meter.finish();
  line.end();
  if (result.tokens == 0) throw UserError("the text has no token to predict");
  print_text_notes(reader.report(), args.text);
  print_unknown(result.unknown, tokenizer, "");
  print_losses(tokenizer,
               "figures per byte are of what it keeps, over the bytes of the text as it was, and compare "
               "only models of this tokenizer");
  return result;
}

void print_perplexity(const PerplexityResult& result, int64_t stride, int64_t context) {
  print_out("perplexity {:.4f} per token, {:.4f} per byte ({:.4f} bits); loss {:.5f}\n", result.per_token(),
            result.per_byte(), result.bits_per_byte(), result.loss());
  print_out("  {} documents, {} tokens, {} bytes; windows of {} tokens, {}\n", result.documents, result.tokens,
            result.bytes, context, stride == context ? "not overlapping" : fmt::format("{} apart", stride));
}

HellaSwagResult measure_hellaswag(const std::vector<HellaSwagExample>& examples, const LoadedModel& loaded,
                                  const Tokenizer& tokenizer) {
  const auto result = evaluate_hellaswag(
      *loaded.model, tokenizer, examples, loaded.experiment.data.first_token,
      [&](int64_t done) { show_live_line(STDERR_FILENO, fmt::format("HellaSwag {}/{}", done, examples.size())); });
  clear_live_line(STDERR_FILENO);
  return result;
}

void print_hellaswag(const HellaSwagResult& result) {
  const auto percent = [&](int64_t right) {
    const double share = double(right) / double(result.examples);
    return fmt::format("{:.2f} % (±{:.2f})", 100 * share,
                       100 * std::sqrt(share * (1 - share) / double(result.examples)));
  };
  print_out("HellaSwag, {} examples: {} by sum, {} by mean over tokens, {} by mean over bytes\n", result.examples,
            percent(result.by_sum), percent(result.by_token), percent(result.by_byte));
}

void run_eval(const EvalArguments& args) {
  if (args.text.inputs.empty() && args.hellaswag.empty())
    throw UserError("sluice eval needs a text, or --hellaswag FILE");
  std::vector<std::string> read = args.text.inputs;
  read.insert(read.end(), {args.hellaswag, args.tokenizer});
  check_output_file("--json", args.json, read);
  std::vector<HellaSwagExample> examples;
  if (!args.hellaswag.empty()) examples = read_hellaswag(args.hellaswag, args.limit);
  const std::unique_ptr<Backend> backend = make_backend(args.device);
  const LoadedModel loaded = load_model(args.path, *backend, {.max_batch = args.batch, .act = {}});
  require_causal(loaded, "eval");
  print_notes(loaded.damaged);
  const auto tokenizer = tokenizer_of(loaded.checkpoint, loaded.experiment, args.tokenizer);
  const int64_t context = loaded.experiment.model.context, stride = args.stride == 0 ? context : args.stride;
  if (stride > context) throw UserError("--stride {} is larger than model.context, which is {}", stride, context);

  const bool quiet = args.json == "-";
  if (!quiet) print_line("{} at step {}, {}", loaded.checkpoint.string(), loaded.step, tokenizer->name());
  Json json = {{"checkpoint", loaded.checkpoint.string()}, {"step", loaded.step}, {"tokenizer", tokenizer->name()}};
  if (!args.text.inputs.empty()) {
    const PerplexityResult result = measure_text(args, loaded, *tokenizer, stride);
    if (!quiet) print_perplexity(result, stride, context);
    json["text"] = perplexity_json(result, stride, context);
  }
  if (!args.hellaswag.empty()) {
    const HellaSwagResult result = measure_hellaswag(examples, loaded, *tokenizer);
    if (!quiet) print_hellaswag(result);
    json["hellaswag"] = hellaswag_json(result);
  }
  if (!args.json.empty()) write_json(json, args.json);
}

}  // namespace

void add_eval_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("eval", "a trained model on text: perplexity, HellaSwag");
  const auto args = std::make_shared<EvalArguments>();
  command->add_option("model", args->path, "a run's folder (its newest checkpoint) or a checkpoint's")->required();
  add_text_options(*command, args->text, false);
  command->add_option("--tokenizer", args->tokenizer,
                      "the model's tokenizer; by default what the run's data.tokenizer says");
  command->add_option("--stride", args->stride, "tokens between the beginnings of windows; by default model.context")
      ->check(between(int64_t{1}, int64_t{1} << 20));
  command->add_option("--hellaswag", args->hellaswag, "HellaSwag's JSON lines (hellaswag_val.jsonl)");
  command->add_option("--limit", args->limit, "only so many examples of HellaSwag")
      ->check(between(int64_t{1}, int64_t{1} << 20));
  command->add_option("--batch", args->batch, "sequences of one pass; by default about 8192 tokens")
      ->check(between(int64_t{1}, int64_t{1} << 20));
  command->add_option("--device", args->device, "auto, cpu or cuda")->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command->add_option("--json", args->json, "write the figures to this file; - prints them alone");
  command->callback([args] { run_eval(*args); });
}

}  // namespace sluice
