// The sources of training and of held-out data, which must be of one tokenizer (training_data.h).
#include "train/training_data.h"

#include "base/error.h"
#include "measure/analyzer.h"
#include "model/config/qk_source.h"

namespace sluice {
namespace {

bool needs_held_out(const LogConfig& log) { return log.eval_every > 0 || log.probe_every > 0 || log.map_positions > 0; }

}  // namespace

TrainingData TrainingData::open(const Experiment& experiment) {
  const auto source = [&](Split split, int64_t length) {
    return make_source(experiment.data, split, length, experiment.model.vocab_size, experiment.seed);
  };
  const int64_t context = experiment.model.context;
  TrainingData data;
  data.train = source(Split::kTrain, context);
  if (experiment.log.analyze_every > 0) data.short_held_out = source(Split::kHeldOut, analysis_length(context));
  if (!needs_held_out(experiment.log)) return data;
  data.held_out = source(Split::kHeldOut, context);
  const TokenizerId trained = data.train->tokenizer(), held_out = data.held_out->tokenizer();
  if (held_out.differs(trained)) {
    throw UserError("data.validation_shards were encoded by another tokenizer ({}) than the training data ({})",
                    held_out.text(), trained.text());
  }
  return data;
}

void take_fixed_text(Experiment& experiment) {
  const QkSourceConfig* stream = fixed_stream_of(experiment.model);
  if (!stream || stream->type != QkSource::kText || !stream->tokens.empty()) return;
  DataConfig in_order = experiment.data;
  in_order.shuffle = "none";
  in_order.masking = {};
  constexpr uint64_t kSeed = 0;  // whatever the run's is: runs of several seeds have one text
  const auto source =
      make_source(in_order, Split::kTrain, experiment.model.context, experiment.model.vocab_size, kSeed);
  std::vector<int32_t> tokens(size_t(source->context())), targets(tokens);
  source->fill(0, 1, tokens.data(), targets.data());
  const auto fill = [&](AttentionConfig& layer) {
    QkSourceConfig& text = layer.options<QkSourceOptions>().qk_source;
    if (text.type == QkSource::kText) text.tokens.assign(tokens.begin(), tokens.end());
  };
  fill(experiment.model.attention.all);
  for (AttentionRun& run : experiment.model.attention.runs) fill(run);
  experiment.model.resolve();
}

}  // namespace sluice
