// The run's own shards or others, cut as the measurement wants them (run_data.h).
#include "runs/run_data.h"

#include "base/error.h"
#include "runs/model_tokenizer.h"

namespace sluice {
namespace {

DataConfig with_shards(DataConfig config, Split split, const GivenData& given) {
  const bool train = split == Split::kTrain;
  const auto own = [&]() -> auto& { return train ? config.train_shards : config.validation_shards; };
  if (given.shards.empty()) {
    const std::string key = train ? "data.train_shards" : "data.validation_shards";
    config.shards_key = fmt::format("{} (or {})", key, given.shards_option);
    if (config.type != "tokens" || !own().empty() || (train && !config.sources.empty())) return config;
    throw UserError("the run's config names no shards in {}; {} names some", key, given.shards_option);
  }
  if (config.type != "tokens") {
    MaskingConfig masking = std::move(config.masking);  // of whatever text: the model predicts what is masked
    config = DataConfig{};
    config.masking = std::move(masking);
  }
  config.type = "tokens";
  config.shards_key = given.shards_option;
  if (train) config.sources.clear();
  own() = given.shards;
  return config;
}

}  // namespace

std::unique_ptr<DataSource> open_run_data(const LoadedModel& loaded, Split split, const GivenData& given,
                                          int64_t length) {
  const Experiment& experiment = loaded.experiment;
  DataConfig config = with_shards(experiment.data, split, given);
  if (given.tokenizer.empty()) {
    config.tokenizer_key = "data.tokenizer (or --tokenizer)";
  } else {
    if (config.type != "tokens") {
      throw UserError("--tokenizer: the run's data are {} (data.type), which no tokenizer made; {} names shards",
                      config.type, given.shards_option);
    }
    tokenizer_of(loaded.checkpoint, experiment, given.tokenizer);  // refuses another than the model's
    config.tokenizer = given.tokenizer;
    config.tokenizer_key = "--tokenizer";
  }
  return make_source(config, split, length, experiment.model.vocab_size, experiment.seed);
}

}  // namespace sluice
