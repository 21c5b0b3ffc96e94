// Which tokenizer a model has: its config's, info.json's or --tokenizer's, if it is that of its training.
#include "runs/model_tokenizer.h"

#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/console.h"
#include "base/error.h"
#include "base/limits.h"
#include "data/sources/source.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

// What the run's info.json says about the tokenizer of its data; empty where nothing does.
std::string trained_with(const fs::path& checkpoint) {
  const fs::path info = checkpoint.parent_path().parent_path() / "info.json";
  std::error_code unknown;
  if (!fs::exists(info, unknown)) return "";
  try {
    const Json json = read_json_file(info.string(), kMostFigureBytes, "a run's file");
    const JsonReader reader(json, info.string());
    return reader.has("tokenizer") && !reader.value("tokenizer").is_null() ? reader.text("tokenizer") : "";
  } catch (const std::exception& error) {  // all that is needed is there
    tell("note: {}; whether this is the tokenizer that the model was trained with cannot be told", error.what());
    return "";
  }
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_of(const fs::path& checkpoint, const Experiment& experiment,
                                        const std::string& given) {
  const std::string& configured = experiment.data.tokenizer;
  if (given.empty() && configured.empty()) {
    throw UserError("{}: the run's config has no data.tokenizer, so that --tokenizer must name the model's",
                    checkpoint.string());
  }
  const std::string key = given.empty() ? "data.tokenizer (or --tokenizer)" : "--tokenizer";
  auto tokenizer = load_tokenizer(given.empty() ? configured : given, key);
  const std::string own = TokenizerId{tokenizer->name(), tokenizer->hash()}.text();
  const std::string trained = trained_with(checkpoint);
  // Names are those of files, which may have moved; the hash at the end tells.
  const auto hash_part = [](const std::string& text) {
    return text.substr(std::min(text.rfind(", hash "), text.size()));
  };
  if (!trained.empty() && hash_part(trained) != hash_part(own)) {
    throw UserError("{}: {} was trained with another tokenizer ({}) than {}", key, checkpoint.string(), trained, own);
  }
  if (tokenizer->vocab_size() > experiment.model.vocab_size) {
    throw UserError("{}: {} does not belong to the model in {}, which has {} tokens (model.vocab_size)", key,
                    tokenizer->name(), checkpoint.string(), experiment.model.vocab_size);
  }
  return tokenizer;
}

}  // namespace sluice
