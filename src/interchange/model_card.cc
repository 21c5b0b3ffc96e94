// The page put together from what the run left beside its checkpoints (model_card.h).
#include "interchange/model_card.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/files.h"
#include "base/files/input_file.h"
#include "base/files/line_reader.h"
#include "base/limits.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// The oldest and the newest release that scripts/check_transformers.py has been run with.
constexpr const char* kTransformers = "4.57.6 to 5.24.0";

class Table {
 public:
  Table() : text_("| | |\n|---|---|\n") {}
  void row(const std::string& name, const std::string& value) {
    if (!value.empty()) text_ += fmt::format("| {} | {} |\n", name, value);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string on_one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r' || c == '|'; }, ' ');
  return text;
}

// ---- what the run left beside its checkpoints -----------------------------------------------------------------------

fs::path run_of(const Checkpoint& checkpoint) { return checkpoint.path.parent_path().parent_path(); }

// A card says what it can: what is no JSON is left out.
Json json_or_null(const std::string& text) {
  try {
    return parse_json(text, "it");
  } catch (const UserError&) {
    return nullptr;
  }
}

std::string data_description(const Checkpoint& checkpoint) {
  std::error_code none;
  const fs::path path = run_of(checkpoint) / "info.json";
  if (!fs::is_regular_file(path, none)) return "";
  const Json info = json_or_null(read_file(path));
  const auto data = info.is_object() ? info.find("data") : info.end();
  return info.is_object() && data != info.end() && data->is_string() ? on_one_line(data->get<std::string>()) : "";
}

struct Figures {
  std::map<std::string, std::pair<int64_t, double>> values;  // name -> the newest step up to the checkpoint, value

  void see(const std::string& name, int64_t step, const Json& line, const char* field) {
    const auto value = line.find(field);
    if (value == line.end() || !value->is_number()) return;
    auto& [last, number] = values.try_emplace(name, -1, 0.0).first->second;
    if (step < last) return;
    const bool same = step == last && name.starts_with("strongest");
    number = same ? std::max(number, value->get<double>()) : value->get<double>();
    last = step;
  }

  void see(const Json& line, int64_t newest) {
    if (!line.is_object() || !line.contains("kind") || !line["kind"].is_string()) return;
    const auto step = line.find("step");
    if (step == line.end() || !step->is_number_integer() || step->get<int64_t>() > newest) return;
    const auto kind = line["kind"].get<std::string>();
    const int64_t at = step->get<int64_t>();
    if (kind == "train") see("loss in training", at, line, "loss");
    if (kind == "eval")
      see("loss on held-out data", at, line, "loss"), see("perplexity on held-out data", at, line, "perplexity");
    if (kind == "eval") see("bits per byte on held-out data", at, line, "bits_per_byte");
    if (kind == "risk") see("backcopy risk", at, line, "backcopy"), see("bigram risk", at, line, "bigram");
    if (kind == "probe") see("strongest attention to position 0 of any head", at, line, "sink_attention");
  }
};

Figures figures_of(const Checkpoint& checkpoint) {
  Figures figures;
  std::error_code none;
  const fs::path path = run_of(checkpoint) / "metrics.jsonl";
  if (!fs::is_regular_file(path, none)) return figures;
  const File file = open_regular(path);
  LineReader lines(pieces_of(file), path.string(), kMostMetricsLine);
  for (std::string line; lines.next(line);) figures.see(json_or_null(line), checkpoint.state.step);
  return figures;
}

// ---- the page -------------------------------------------------------------------------------------------------------

std::string attention_text(const AttentionPattern& attention) {
  std::string text;
  for (const AttentionConfig* one : attention.kinds()) {
    text += (text.empty() ? "" : "; then ") + one->type;
    for (const AttentionPreset& preset : attention_presets())
      if (one->type == preset.name) text += fmt::format(": {} ({})", preset.summary, preset.source);
    text += "; " + one->text();
  }
  return attention.runs.empty() ? text
                                : fmt::format("{} (over the layers, again and again): {}", attention.name(), text);
}

std::string describe(const Checkpoint& checkpoint, const ModelConfig& model, const ExportResult& result,
                     const ExportOptions& options) {
  const Json train = checkpoint.state.config.value("train", Json::object());
  const int64_t step = checkpoint.state.step, batch = train.value("batch", int64_t(0));
  Table table;
  table.row("parameters", fmt::format("{}, stored in {}", result.parameters, options.type));
  table.row("attention", attention_text(model.attention));
  table.row("size", fmt::format("{} layers, width {}, {} heads ({} key/value heads), MLP {} of width {}", model.layers,
                                model.width, model.heads, model.kv_heads, choice_name(model.mlp), model.mlp_width));
  const std::string gated = model.norm_gate > 0 ? fmt::format(" with gates of rank {}", model.norm_gate) : "";
  table.row("norm, positions", fmt::format("{}{}, {}", choice_name(model.norm), gated, choice_name(model.position)));
  if (model.registers > 0)
    table.row("registers", fmt::format("{} before the first token of every sequence", model.registers));
  table.row("vocabulary, context", fmt::format("{} tokens, {} tokens", model.vocab_size, model.context));
  table.row("tokenizer", options.tokenizer ? on_one_line(options.tokenizer->name()) : "none in this folder");
  if (step > 0) {
    table.row("trained",
              fmt::format("{} steps, {:.0f} tokens, precision {}", step,
                          double(step) * double(batch) * double(model.context), train.value("precision", "")));
    table.row("data", data_description(checkpoint));
  }
  for (const auto& [name, figure] : figures_of(checkpoint).values)
    table.row(name, fmt::format("{:.4f} (step {})", figure.second, figure.first));
  return table.text();
}

std::string usage(const ModelConfig& model, const ExportResult& result, const ExportOptions& options) {
  const bool own = result.architecture == Architecture::kSluice;
  const std::string trust = own ? ", trust_remote_code=True" : "";
  const char* kind = library_class(model);
  std::string text = fmt::format("## Use\n\n```python\nfrom transformers import {}, AutoTokenizer\n\n", kind);
  text += fmt::format("model = {}.from_pretrained(DIR{})\n", kind, trust);
  if (result.has_tokenizer) {
    text += fmt::format("tokenizer = AutoTokenizer.from_pretrained(DIR{})\n", trust);
    if (!model.causal && options.trained.mask >= 0) {
      text += "inputs = tokenizer(\"Once upon a time\", return_tensors=\"pt\")\n";
      text += fmt::format("inputs[\"input_ids\"][0, 1] = {}  # the mask token\n", options.trained.mask);
      text += "print(tokenizer.decode(model(**inputs).logits[0, 1].argmax()))\n";
    } else if (model.causal) {
      text += "inputs = tokenizer(\"Once upon a time\", return_tensors=\"pt\")\n";
      if (options.tokenizer && options.tokenizer->closes_text() >= 0)
        text +=
            "inputs = {name: each[:, :-1] for name, each in inputs.items()}  # without the token that ends a text\n";
      text += "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0], skip_special_tokens=True))\n";
    }
  }
  text += fmt::format("```\n\nMade for transformers {}. ", kTransformers);
  if (own) {
    text +=
        "`modeling_sluice.py` beside the weights computes the model; `output_attentions=True` gives the attention "
        "weights, "
        "`output_hidden_states=True` the residual stream, and `output_gates=True` the gates. ";
  }
  if (options.trained.first >= 0) {
    text +=
        fmt::format("In training every sequence began with token {}{}. ", options.trained.first,
                    result.has_tokenizer ? ", which the tokenizer puts in front" : ": put it in front of every text");
  }
  if (result.has_tokenizer)
    text += "Names of special tokens in a text are text; with `split_special_tokens=False` they are the tokens. ";
  text += fmt::format("Texts of more than {} tokens are longer than those of training.\n", model.context);
  for (const std::string& note : result.notes) text += fmt::format("\nNote: {}.\n", note);
  return text;
}

// The resolved config without the places of files, which are nobody else's.
Json public_config(const Json& config) {
  Json out = Json::object();
  for (const char* key : {"name", "seed", "model", "data", "train"})
    if (config.contains(key)) out[key] = config[key];
  if (out.contains("data") && out["data"].is_object())
    for (const char* key : {"train_shards", "validation_shards", "sources", "tokenizer", "statistics"})
      out["data"].erase(key);
  return out;
}

}  // namespace

std::string model_card(const Checkpoint& checkpoint, const ModelConfig& model, const ExportResult& result,
                       const ExportOptions& options) {
  const Json& config = checkpoint.state.config;
  const std::string name = on_one_line(config.value("name", "model"));
  std::string text = fmt::format("---\nlibrary_name: transformers\npipeline_tag: {}\ntags:\n- sluice\n",
                                 model.causal ? "text-generation" : "fill-mask");
  std::set<std::string> kinds;
  for (const AttentionConfig* one : model.attention.kinds()) kinds.insert(one->type);
  for (const std::string& kind : kinds) text += fmt::format("- {}\n", kind);
  text += fmt::format("# license: yours to choose, for example apache-2.0\n---\n\n# {}\n\n", name);
  text += fmt::format("A {} language model ({}) with {} attention, exported by Sluice.\n\n",
                      model.causal ? "causal" : "masked", name_of(result.architecture), model.attention.name());
  text += describe(checkpoint, model, result, options) + "\n" + usage(model, result, options);
  text += "\n## Config\n\n```json\n" + public_config(config).dump(2) + "\n```\n";
  return text;
}

}  // namespace sluice
