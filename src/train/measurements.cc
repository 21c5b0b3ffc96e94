// Each figure of a run, where it goes, and who waits for it (measurements.h).
#include "train/measurements.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sluice {
namespace {

// For a person, of a risk line.
std::string risks_text(const Json& line) {
  const std::string bigram = fmt::format("bigram risk {:.4g} nats", line.at("bigram").get<double>());
  if (!line.contains("backcopy")) return fmt::format("; {} (no triggers)", bigram);
  return fmt::format("; backcopy risk {:.2g}, {}", line.at("backcopy").get<double>(), bigram);
}

}  // namespace

Measurements::Measurements(const Experiment& experiment, const TrainingData& data, Learner& learner,
                           RunSession& session, Communicator& ranks)
    : experiment_(experiment), data_(data), learner_(learner), session_(session), ranks_(ranks) {
  if (!session_.has_folder()) return;
  if (data_.held_out) prober_.emplace(learner_.model(), *data_.held_out, experiment.log.probe_batch);
  if (!data_.short_held_out) return;
  AnalysisOptions options;
  options.sequences = experiment.log.analyze_sequences;
  analyzer_.emplace(learner_.model(), *data_.short_held_out, options);
}

void Measurements::evaluate(int64_t step) {
  const int64_t there = data_.held_out->sequences_per_epoch(), wanted = experiment_.log.eval_batch;
  const int64_t sequences = there > 0 ? std::min(there, wanted) : wanted;
  const double loss = learner_.evaluate(*data_.held_out, sequences);
  if (!session_.has_folder()) return;
  Json line{{"kind", "eval"}, {"step", step}, {"loss", loss}, {"perplexity", std::exp(loss)}};
  if (!eval_bytes_) eval_bytes_ = data_.held_out->target_bytes(0, sequences);
  if (*eval_bytes_ > 0) {
    const double tokens_per_byte = double(sequences * experiment_.model.context) / double(*eval_bytes_);
    line["bits_per_byte"] = loss * tokens_per_byte / std::numbers::ln2;
  }
  session_.append(line);
  outcome_ = fmt::format("; held-out loss {:.4f}", loss);
  session_.pause_progress();
  const std::string part = sequences < there ? fmt::format(" (of {} of {} windows)", sequences, there) : "";
  spdlog::info("step {}: held-out loss {:.4f}, perplexity {:.2f}{}", step, loss, std::exp(loss), part);
}

void Measurements::probe(int64_t step) {
  if (prober_) {
    for (const Json& line : prober_->run().lines(step)) {
      session_.append(line);
      if (line["kind"] == "risk") outcome_ = risks_text(line);
    }
    session_.flush();
  }
  wait_for_root(ranks_);
}

// Between steps nobody needs the gradients that it overwrites. Curves and maps are stored of the last step only.
void Measurements::analyze(int64_t step) {
  if (analyzer_) {
    const Analysis analysis = analyzer_->run(step);
    for (const Json& line : analysis.lines()) session_.append(line);
    session_.flush();
    session_.check_still_ours();
    if (step == experiment_.train.steps) session_.write_analysis(analysis);
  }
  wait_for_root(ranks_);
}

void Measurements::save_attention_map(int64_t step) {
  if (experiment_.log.map_positions == 0) return;
  if (prober_) {
    session_.check_still_ours();
    session_.write_attention_map(step, prober_->attention_map(step, experiment_.log.map_positions));
  }
  wait_for_root(ranks_);
}

}  // namespace sluice
